"""Turns a function into a script that calls it: its source and its arguments, without pickle."""

import ast
import inspect
import json
import math
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from acceleratedjob.client.free_names import free_names, relative_imports
from acceleratedjob.errors import NotShippable, shown

Function = Callable[..., object]
_SCALARS = (str, bool, int, float, type(None))


def script(function: Function, arguments: Mapping[str, Any]) -> str:
    """Return the text of a script that defines a function and calls it.

    Args:
        function: a function of Python that uses nothing from around it.
        arguments: its keyword arguments, of values that JSON has.

    Raises:
        NotShippable: the function needs more than its source, or an argument cannot be written.
    """
    name = _name(function)
    source = _source(function, name)
    _check_names(function, name, source)
    _check_arguments(function, name, arguments)
    call = f"{name}(**{json.loads(json.dumps(dict(arguments)))!r})" if arguments else f"{name}()"
    head = f'"""The function {name}, as acceleratedjob.Client.train has found it."""'
    future = "from __future__ import annotations"  # of types that are imported elsewhere
    return f'{head}\n\n{future}\n\n\n{source}\n\nif __name__ == "__main__":\n    {call}\n'


def _name(function: Function) -> str:
    """Return the name of a function that stands for itself.

    Raises:
        NotShippable: it is something else that can be called.
    """
    if not inspect.isfunction(function):
        found = "a method" if inspect.ismethod(function) else f"{_article(function)}"
        raise NotShippable(
            f"what is trained must be a function that is written with `def`, or the path of a "
            f"script, got {found}: {shown(function)}"
        )
    name, place = function.__name__, function.__qualname__.rpartition(".")[0]
    if name == "<lambda>":
        raise NotShippable("the function must have a name, got a lambda: write it with `def`")
    if place and not place.endswith("<locals>"):
        raise NotShippable(
            f"{function.__qualname__} must not be a method of a class: define the function outside "
            f"of {place}, and let it create the object"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise NotShippable(
            f"{name} must run when it is called, but it is a coroutine or a generator: write it "
            "without `async` and `yield`"
        )
    return name


def _article(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _source(function: Function, name: str) -> str:
    """Return the source of a function, from the first column on.

    Raises:
        NotShippable: the source cannot be found.
    """
    try:
        found = inspect.getsource(function)
        source = _unindented(found)
        (definition,) = ast.parse(source).body
    except (OSError, SyntaxError, ValueError) as error:
        raise NotShippable(
            f"the source of {name} must be found, and is not ({error}): define it with `def`, in a "
            "file or in a cell of a notebook"
        ) from error
    inner = definition.body[0] if isinstance(definition, ast.If) else definition
    if not isinstance(inner, ast.FunctionDef) or inner.name != name:
        raise NotShippable(
            f"the source of {name} must be found, but its file has changed since it was imported: "
            "import it again"
        )
    return source


def _unindented(source: str) -> str:
    r"""Return the source of a definition without its indentation; its strings stay as they are.

    >>> _unindented("    def f():\n        return 1\n")
    'def f():\n    return 1\n'
    """
    if not source[:1].isspace():
        return source
    exact = f"if True:\n{source}"
    moved = textwrap.dedent(source)
    try:
        (inside,) = ast.parse(exact).body
        same = isinstance(inside, ast.If) and _dump(inside.body) == _dump(ast.parse(moved).body)
    except SyntaxError:  # a string with lines that begin in the first column
        return exact
    return moved if same else exact


def _dump(statements: list[ast.stmt]) -> list[str]:
    return [ast.dump(one) for one in statements]


def _check_names(function: Function, name: str, source: str) -> None:
    problems = [_problem(function, one) for one in free_names(source)]
    problems += [
        f"`{one}` is relative to a package that the pods do not have: ship a folder instead"
        for one in relative_imports(source)
    ]
    if problems:
        raise NotShippable(
            f"{name} is shipped alone, so it must use only its arguments and what is imported or "
            f"defined inside it, but: {'; '.join(problems)}"
        )


def _problem(function: Function, name: str) -> str:
    """Return what a name stands for, and what to do instead of using it."""
    code: types.CodeType = function.__code__
    outside: dict[str, Any] = function.__globals__
    if name in code.co_freevars:
        return f"`{name}` is a variable of the function around it: pass it in `args`"
    if name not in outside:
        return f"`{name}` is not defined"
    value = outside[name]
    home = getattr(value, "__module__", None)
    if isinstance(value, types.ModuleType):
        line = f"import {value.__name__}"
        line = line if value.__name__ == name else f"{line} as {name}"
        return f"`{name}` is a module: write `{line}` inside it"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        if home in (None, "__main__", function.__module__):
            return f"`{name}` is defined outside of it: define it inside it, or ship a script"
        return f"`{name}` is imported outside of it: write `from {home} import {name}` inside it"
    return f"`{name}` is a variable outside of it: pass it in `args`"


def _check_arguments(function: Function, name: str, arguments: Mapping[str, Any]) -> None:
    if not isinstance(arguments, Mapping):
        raise NotShippable(
            f"the arguments of {name} must be a mapping of names to values, such as "
            f"{{'lr': 0.1}}, got {shown(arguments)}"
        )
    problem = next(_misfits(dict(arguments), "args"), None)
    if problem is not None:
        raise NotShippable(f"{problem}; the arguments of {name} are sent as JSON")
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise NotShippable(f"{name} must accept its arguments, and does not: {error}") from error


def _misfits(value: object, path: str) -> Iterator[str]:
    """Yield a sentence for each value that JSON does not have, or reads as another value.

    >>> list(_misfits({"betas": (0.9, 0.99), "lr": 0.1}, "args"))
    ["args['betas'] must be a list, which a tuple would become, got (0.9, 0.99)"]
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield f"{path} must have text as keys, got {shown(key)}"
            yield from _misfits(inner, f"{path}[{key!r}]")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _misfits(inner, f"{path}[{index}]")
    elif (wanted := _wanted(value)) is not None:
        yield f"{path} must be {wanted}, got {shown(value)}"


def _wanted(value: object) -> str | None:
    """Return what a single value must be instead; None if JSON has it."""
    if isinstance(value, tuple):
        return "a list, which a tuple would become"
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    return None if isinstance(value, _SCALARS) else "text, a number, a bool, None, a list or a dict"
