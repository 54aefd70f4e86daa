"""What a function takes and gives, as a page shows it."""

import ast
from collections.abc import Iterator

WIDTH = 88  # what a page shows without scrolling


def signature(name: str, node: ast.FunctionDef, *, drop_first: bool = False) -> str:
    """On one line if it fits; else a parameter a line."""
    parameters = list(_parameters(node.args))[drop_first:]
    returns = f" -> {_type(node.returns)}" if node.returns and name == node.name else ""
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f"){returns}"])


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    defaults = [*[None] * missing, *arguments.defaults]
    yield from map(_parameter, plain, defaults)
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    yield from map(_parameter, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(one: ast.arg, default: ast.expr | None) -> str:
    said = one.arg + (f": {_type(one.annotation)}" if one.annotation else "")
    return said if default is None else f"{said} = {ast.unparse(default)}"


def _type(annotation: ast.expr) -> str:
    """As it is written, without the quotes around what is defined later."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def names(arguments: ast.arguments) -> set[str]:
    """What a docstring may explain."""
    shown = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {one.arg for one in shown}
