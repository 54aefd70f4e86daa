"""Tables of the reference: fields of a dataclass, variables, flags."""

import ast
from collections.abc import Iterator, Sequence

from docs import prose
from docs.source import Module, find, module, surface
from runtime.config.settings import env_name
from runtime.launch import flags


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def fields(home: Module, node: ast.ClassDef) -> Iterator[tuple[str, ...]]:
    """Of a dataclass: name, default, and the comment behind it or above."""
    for one in node.body if is_dataclass(node) else ():
        if not isinstance(one, ast.AnnAssign):
            continue
        above: list[str] = []
        line = one.lineno - 1
        while line in home.comments and home.text.splitlines()[line - 1].lstrip().startswith("#"):
            above.insert(0, home.comments[line])
            line -= 1
        said = [*above, home.comments.get(one.end_lineno or 0, "")]
        default = "" if one.value is None else f"`{ast.unparse(one.value)}`"
        yield f"`{ast.unparse(one.target)}`", default, " ".join(filter(None, said))


def has(node: ast.FunctionDef | ast.ClassDef, decorator: str) -> bool:
    """Whether something is decorated so."""
    return any(ast.unparse(one).split("(")[0] == decorator for one in node.decorator_list)


def is_property(node: ast.FunctionDef) -> bool:
    """Whether it is read without brackets."""
    return has(node, "property") or has(node, "functools.cached_property")


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether it is made of fields."""
    return has(node, "dataclass") or has(node, "dataclasses.dataclass")


def flag_tables() -> Iterator[str]:
    """What the launcher takes."""
    yield "## python -m runtime.launch"
    yield (
        "`python -m runtime.launch [FLAGS] SCRIPT [ITS ARGUMENTS]`: one process is the script "
        "itself, at once; several are started by torchrun. Flags are read with dashes or "
        "underscores."
    )
    rows = [
        (f"`--{one.name}`" + (f", `--{one.theirs}`" if one.theirs else ""), one.text, one.default)
        for one in flags.PLACES
    ]
    rows.append(("`--num-processes`", "processes of all pods together", ""))
    yield table(("where this is", "meaning", "default"), rows)
    handed = flags.TORCHRUN | flags.SWITCHES
    yield table(("handed on to torchrun", "meaning"), [(f"`--{n}`", t) for n, t in handed.items()])
    settings = [(f"`--{name}`", f"`{to}`") for name, (to, _) in flags.SETTINGS.items()]
    yield table(("setting, as of `accelerate launch`", "variable"), settings)
    left_out = [(f"`--{name}`", instead) for name, instead in flags.OUT.items()]
    yield table(("left out", "instead"), left_out)


def variables() -> Iterator[str]:
    """What the environment may say; a setting without a comment is explained where it is passed."""
    yield "## Variables"
    yield "A script's own arguments come first. A job sets these by `spec.runtime`."
    said = _explained()
    rows = []
    for field, _, text in _fields_of("config.settings", "Settings"):
        name = field.strip("`")
        others = (name, name.removeprefix("dynamo_"), name.removeprefix("dynamo_use_"))
        found = next((said[one] for one in others if one in said), "")
        rows.append((f"`{env_name(name)}`", text or found))
    yield table(("variable", "meaning"), rows)


def _explained() -> dict[str, str]:
    """What is said elsewhere of an argument or a field."""
    said: dict[str, str] = {}
    for home, name in surface():
        said |= {field.strip("`"): text for field, _, text in _fields_of(home, name) if text}
    found = find("accelerator", "Accelerator")
    for one in found[1].body if found else ():
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            said |= prose.arguments(ast.get_docstring(one) or "")
    return said


def _fields_of(home: str, name: str) -> list[tuple[str, ...]]:
    node = module(home).definitions[name]
    return list(fields(module(home), node)) if isinstance(node, ast.ClassDef) else []
