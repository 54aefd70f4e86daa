"""Tables of the reference: fields of dataclasses, environment variables, flags."""

import ast
from collections.abc import Iterator, Sequence

from docs import prose
from docs.source import Module, module
from runtime.config.settings import env_name
from runtime.launch import flags


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def fields(home: Module, node: ast.ClassDef) -> Iterator[tuple[str, ...]]:
    """Yield the name, default and description of each field of a dataclass.

    The description is that of the `Attributes:` section of the class; for a field that is not
    there, the comment above the field or at the end of its line.
    """
    described = prose.attributes(ast.get_docstring(node) or "")
    for one in node.body if is_dataclass(node) else ():
        if isinstance(one, ast.AnnAssign) and not _is_class_variable(one):
            name = ast.unparse(one.target)
            yield f"`{name}`", _default(one), described.get(name) or _commented(home, one)


def _is_class_variable(field: ast.AnnAssign) -> bool:
    return ast.unparse(field.annotation).startswith("ClassVar")


def _default(field: ast.AnnAssign) -> str:
    return "" if field.value is None else f"`{ast.unparse(field.value)}`"


def _commented(home: Module, field: ast.AnnAssign) -> str:
    """Return the comments above a field and at the end of its line."""
    above: list[str] = []
    line = field.lineno - 1
    while line in home.comments and home.text.splitlines()[line - 1].lstrip().startswith("#"):
        above.insert(0, home.comments[line])
        line -= 1
    return " ".join(filter(None, [*above, home.comments.get(field.end_lineno or 0, "")]))


def has(node: ast.FunctionDef | ast.ClassDef, decorator: str) -> bool:
    """Whether a function or class has a decorator."""
    return any(ast.unparse(one).split("(")[0] == decorator for one in node.decorator_list)


def is_property(node: ast.FunctionDef) -> bool:
    """Whether a method is a property."""
    return has(node, "property") or has(node, "functools.cached_property")


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is a dataclass."""
    return has(node, "dataclass") or has(node, "dataclasses.dataclass")


def flag_tables() -> Iterator[str]:
    """Yield the description and the tables of the launcher's flags."""
    yield "## python -m runtime.launch"
    yield (
        "`python -m runtime.launch [FLAGS] SCRIPT [SCRIPT ARGUMENTS]` starts the training "
        "processes of a pod or machine, and supervises them. Its exit code is that of the first "
        "process that fails, or 143 if processes were stopped and none has failed. If a flag is "
        "used that only torchrun has, or a range of `--nnodes`, torchrun starts the processes. "
        "The words of a flag may be separated by dashes or "
        "underscores."
    )
    rows = [
        (f"`--{one.name}`" + (f", `--{one.theirs}`" if one.theirs else ""), one.text, one.default)
        for one in flags.WORLD_FLAGS
    ]
    rows.append(("`--num-processes`", "number of processes of all pods together", ""))
    rows.append(("`--as-accelerate`", flags.ALIAS, ""))
    yield table(("processes and pods", "meaning", "default"), rows)
    passed = flags.TORCHRUN | flags.SWITCHES
    yield table(("for torchrun", "meaning"), [(f"`--{n}`", t) for n, t in passed.items()])
    settings = [(f"`--{name}`", f"`{to}`") for name, (to, _) in flags.SETTINGS.items()]
    yield table(("setting of `accelerate launch`", "sets the variable"), settings)
    left_out = [(f"`--{name}`", instead) for name, instead in flags.OUT.items()]
    yield table(("not supported", "instead"), left_out)


def variables() -> Iterator[str]:
    """Yield the table of the environment variables that replace defaults."""
    yield "## Variables"
    yield (
        "These environment variables set defaults; arguments in the script have priority. The "
        "operator sets them from `spec.runtime`."
    )
    node = module("config.settings").definitions["Settings"]
    assert isinstance(node, ast.ClassDef)  # noqa: S101  # for mypy
    settings = fields(module("config.settings"), node)
    rows = [(f"`{env_name(name.strip('`'))}`", text) for name, _, text in settings]
    yield table(("variable", "meaning"), rows)
