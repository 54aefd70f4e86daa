"""`python -m docs.reference`: writes docs/api, the reference of the resource and of the runtime.

Signatures and docstrings are read from the source. A module that no page names is shown on the last
page, so that no module is missing.
"""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from docs import chart, prose, resource, signature, tables
from docs.source import Definition, Module, find, lineage, module, operator_module, surface

FOLDER = Path(__file__).with_name("api")
OTHERS = "more"
CLIENT = "client"
ABOUT_CLIENT = "The Python client: what it does and returns, and its errors."
CLIENT_NAMES = {  # module -> what to import from where, in order
    "client.client": ("acceleratedjob", ("Client", "Job")),
    "client.state": ("acceleratedjob", ("JobState", "LogLine")),
    "api.status": ("acceleratedjob.api.status", ("Failure",)),
    "errors": (
        "acceleratedjob.errors",
        ("NotShippable", "InvalidSpec", "JobFailed", "LosesTraining"),
    ),
}
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> description, modules in order
    "accelerator": ("The object through which a script uses the library.", ("accelerator",)),
    "state": (
        "Rank and world size of a process, its device, and the state of gradient accumulation.",
        ("world.state", "world.gradient_state", "world.contract", "errors"),
    ),
    "data_loader": (
        "Prepared data loaders, which give each process its own batches.",
        tuple(
            f"data.{name}"
            for name in (
                *("prepare", "loader", "dispatch.loader", "iterable", "batch_samplers"),
                *("order", "adapter", "choosing"),
            )
        ),
    ),
    "optimizer": ("Prepared optimizers.", ("optim.optimizer",)),
    "scheduler": ("Prepared schedulers.", ("optim.scheduler",)),
    "checkpointing": (
        "The contents of a checkpoint. Scripts call `Accelerator.save_state` and `load_state`.",
        ("checkpoint.contents",),
    ),
    "sharding": (
        "Models of which each process has a part.",
        (
            "*fsdp*",
            "*sharded*",
            "checkpoint.merging",
            "parallel.mesh",
            "parallel.handlers",
            "sharding",
        ),
    ),
    "operations": (
        "Collectives, and operations on nested tensors.",
        (
            *("collectives.tensors", "collectives.objects", "data.rng", "collectives.nested"),
            *("parallel.precision", "collectives.debug"),
        ),
    ),
    "launch": ("Starting training processes.", ("launchers",)),
    "tracking": ("Experiment trackers and loggers.", ("trackers.*", "world.log")),
    "configuration": (
        "The settings of the Accelerator, and the environment variables of their defaults.",
        ("config.plugins", "config.handlers", "parallel.compile", "config.enums"),
    ),
    OTHERS: (
        "Memory, models, versions and other helpers.",
        ("local_sgd", "utils.memory", "parallel.wrap"),
    ),
}


def pages() -> dict[str, str]:
    """Return the text of each page that is not empty, by file name."""
    homes: dict[str, list[tuple[Module, Definition, str]]] = {name: [] for name in PAGES}
    for (home, name), package in surface().items():
        homes[_page(home)].append((module(home), module(home).definitions[name], package))
    written = {name: _page_text(name, entries) for name, entries in homes.items() if entries}
    about = {resource.NAME: resource.ABOUT, CLIENT: ABOUT_CLIENT}
    about |= {name: PAGES[name][0] for name in written}
    index = "\n".join(f"- [{name}]({name}.md): {said}" for name, said in about.items())
    head = "# Reference\n\nWritten by `make docs` from the source.\n\n"
    written |= {
        resource.NAME: resource.page(),
        CLIENT: _client_page(),
        "README": f"{head}{index}\n",
    }
    return {f"{name}.md": text for name, text in written.items()}


def undocumented() -> list[str]:
    """Return the public names, methods and dataclass fields that have no description."""
    missing = []
    for home, name in surface():
        node = module(home).definitions[name]
        inner = _members(module(home), node) if isinstance(node, ast.ClassDef) else []
        own = [(name, node), *((f"{name}.{one.name}", one) for one in inner)]
        missing += [f"{home}.{label}" for label, one in own if ast.get_docstring(one) is None]
        fields = tables.fields(module(home), node) if isinstance(node, ast.ClassDef) else ()
        missing += [f"{home}.{name}.{field.strip('`')}" for field, _, text in fields if not text]
    return missing


def misnamed() -> list[str]:
    """Return the arguments and fields that a docstring describes, but that do not exist."""
    wrong = []
    for home, name in surface():
        node = module(home).definitions[name]
        if isinstance(node, ast.ClassDef) and tables.is_dataclass(node):
            known = {field.strip("`") for field, *_ in tables.fields(module(home), node)}
            unknown = prose.attributes(_docstring(node)).keys() - known
            wrong += [f"{home}.{name}: {attribute}" for attribute in unknown]
        for one in _functions(module(home), node):
            explained = prose.arguments(_docstring(one)).keys()
            if one.args.vararg is None and one.args.kwarg is None:
                unknown = explained - signature.names(one.args)
                wrong += [f"{home}.{name} {one.name}: {argument}" for argument in unknown]
    return sorted(wrong)


def _functions(home: Module, node: Definition) -> list[ast.FunctionDef]:
    if isinstance(node, ast.FunctionDef):
        return [node]
    made = _made_by(home, node)
    return _members(home, node) + ([made] if made else [])


def _page(home: str) -> str:
    found = (name for name, (_, rooms) in PAGES.items() if any(fnmatch(home, r) for r in rooms))
    return next(found, OTHERS)


def _page_text(name: str, entries: list[tuple[Module, Definition, str]]) -> str:
    about, rooms = PAGES[name]
    place = {room: number for number, room in enumerate(rooms)}
    ordered = sorted(
        entries,
        key=lambda one: (place.get(one[0].name, len(rooms)), one[0].name, one[1].lineno),
    )
    blocks = [f"# {name}", about]
    blocks += tables.flag_tables() if name == "launch" else []
    blocks += tables.variables() if name == "configuration" else []
    for home, node, package in ordered:
        blocks += _entry(home, node, package)
    return "\n\n".join(blocks) + "\n"


def _client_page() -> str:
    blocks = [f"# {CLIENT}", ABOUT_CLIENT]
    for name, (package, classes) in CLIENT_NAMES.items():
        home = operator_module(name)
        blocks += [b for one in classes for b in _entry(home, home.definitions[one], package)]
    return "\n\n".join(blocks) + "\n"


def _entry(home: Module, node: Definition, package: str) -> Iterator[str]:
    yield f"## {node.name}"
    yield f"`from {package} import {node.name}`"
    if isinstance(node, ast.FunctionDef):
        yield _code(signature.signature(node.name, node))
        yield _text(node)
        return
    yield from _class(home, node)


def _class(home: Module, node: ast.ClassDef) -> Iterator[str]:
    fields = list(tables.fields(home, node))
    made = _made_by(home, node)
    if made is not None:
        yield _code(signature.signature(node.name, made, drop_first=True))
    yield prose.markdown(_docstring(node), without="Attributes" if fields else "")
    if made is not None and ast.get_docstring(made) is not None:
        yield _text(made)
    if _is_enum(home, node):
        yield from _values(node)
    elif fields:
        yield tables.table(("field", "default", "meaning"), fields)
    members = _members(home, node)
    properties = [
        (f"`{one.name}`", prose.summary(ast.get_docstring(one) or ""))
        for one in members
        if tables.is_property(one)
    ]
    if properties:
        yield tables.table(("property", "meaning"), properties)
    for one in members:
        if not tables.is_property(one):
            yield f"### {node.name}.{one.name}"
            yield _code(
                signature.signature(one.name, one, drop_first=not tables.has(one, "staticmethod"))
            )
            yield _text(one)


def _text(node: Definition) -> str:
    """Return a docstring as Markdown; `See ...` is replaced by the docstring that it refers to."""
    return prose.markdown(_docstring(node))


def _docstring(node: Definition) -> str:
    docstring = ast.get_docstring(node) or ""
    elsewhere = re.fullmatch(r"See `([\w.]+)\.(\w+)`\.", docstring)
    found = find(elsewhere[1], elsewhere[2]) if elsewhere else None
    return _docstring(found[1]) if found else docstring


def _members(home: Module, node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the public methods and properties, including inherited ones."""
    classes = [node] if _is_enum(home, node) else [one for _, one in lineage(home, node)]
    found: dict[str, ast.FunctionDef] = {}
    for inner in (inner for one in classes for inner in one.body):
        if isinstance(inner, ast.FunctionDef) and _is_shown(inner):
            found.setdefault(inner.name, inner)
    return list(found.values())


def _is_shown(member: ast.FunctionDef) -> bool:
    """Whether a method is shown: it is public, and not an overload for type checkers."""
    return not member.name.startswith("_") and not tables.has(member, "overload")


def _made_by(home: Module, node: ast.ClassDef) -> ast.FunctionDef | None:
    own = (
        inner
        for _, one in lineage(home, node)
        for inner in one.body
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"
    )
    return None if tables.is_dataclass(node) else next(own, None)


def _is_enum(home: Module, node: ast.ClassDef) -> bool:
    bases = (ast.unparse(base) for _, one in lineage(home, node) for base in one.bases)
    return any(base.endswith("Enum") for base in bases)


def _values(node: ast.ClassDef) -> Iterator[str]:
    names = [ast.unparse(one.targets[0]) for one in node.body if isinstance(one, ast.Assign)]
    if names:
        yield "Values: " + ", ".join(f"`{name}`" for name in names)


def _code(text: str) -> str:
    return f"```py\n{text}\n```"


def main() -> None:
    """Write all pages, remove those that no longer exist, and write the chart's README."""
    FOLDER.mkdir(exist_ok=True)
    texts = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    chart.README.write_text(chart.readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
