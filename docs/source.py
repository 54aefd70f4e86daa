"""The runtime's source as the reference shows it: read, never imported, so torch is not needed."""

import ast
import functools
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNTIME = Path(__file__).parents[1] / "runtime"
OPERATOR = Path(__file__).parents[1] / "operator" / "acceleratedjob"
Definition = ast.ClassDef | ast.FunctionDef
# Of these all that is defined is public; of others, what `runtime`, `utils` or an `__all__` names.
WHOLE = ("local_sgd",)
NOT_SHOWN = ("__init__", "memory_utils")  # the latter is another name for `utils.memory`


@dataclass(frozen=True)
class Module:
    """One file."""

    name: str  # below `runtime`: `data_loader`, `utils.memory`
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @functools.cached_property
    def comments(self) -> dict[int, str]:
        """What stands behind `#`, by line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {
            token.start[0]: token.string.lstrip("# ")
            for token in tokens
            if token.type == tokenize.COMMENT
        }

    @functools.cached_property
    def definitions(self) -> dict[str, Definition]:
        """Classes and functions."""
        found = (one for one in self.tree.body if isinstance(one, Definition))
        return {one.name: one for one in found}

    @functools.cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Names that come from other modules of the runtime: -> module, name there."""
        return {
            alias.asname or alias.name: (source.removeprefix("runtime").lstrip("."), alias.name)
            for one in ast.walk(self.tree)
            if isinstance(one, ast.ImportFrom)
            and (source := one.module or "").split(".")[0] == "runtime"
            for alias in one.names
        }

    def constant(self, name: str) -> ast.expr | None:
        """What a module's name is set to."""
        for one in self.tree.body:
            targets = one.targets if isinstance(one, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return one.value if isinstance(one, ast.Assign) else None
        return None


@functools.cache
def module(name: str) -> Module:
    """A module by its name below `runtime`; `` is the package itself."""
    path = RUNTIME.joinpath(*name.split(".")) if name else RUNTIME
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return Module(name, file.read_text(encoding="utf-8"))


@functools.cache
def operator_module(name: str) -> Module:
    """A module by its name below `acceleratedjob`."""
    file = OPERATOR.joinpath(*name.split(".")).with_suffix(".py")
    return Module(name, file.read_text(encoding="utf-8"))


def find(home: str, name: str) -> tuple[Module, Definition] | None:
    """Where a name that a module has is defined; None if that is no class or function here."""
    here = module(home)
    if name in here.definitions:
        return here, here.definitions[name]
    if name not in here.imports:
        return None
    source, original = here.imports[name]
    is_module = (RUNTIME / source.replace(".", "/") / f"{original}.py").exists()
    return None if is_module else find(source, original)


def lineage(home: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class, and those of the runtime that it is made of, the nearest first."""
    yield home, node
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        found = find(home.name, name)
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield from lineage(found[0], found[1])


def surface() -> dict[tuple[str, str], str]:
    """All public names: (module of the definition, name) -> what to import it from."""
    found: dict[tuple[str, str], str] = {}
    for exporter, name in _exported():
        home = find(exporter, name)
        if home is not None:
            package = f"runtime.{exporter}".rstrip(".").removesuffix(".__init__")
            found.setdefault((home[0].name, home[1].name), package)
    return found


def _exported() -> Iterator[tuple[str, str]]:
    """Module and name, for each name that a module offers; the shortest way to it first."""
    homes = module("").constant("_HOMES")
    for name, home in ast.literal_eval(homes).items() if homes else ():
        found = find(home, name)
        if found:
            yield "", name
    yield from (("", name) for name in _offered(""))
    for file in sorted(RUNTIME.glob("*.py")):
        names = _offered(file.stem) if file.stem not in NOT_SHOWN else ()
        yield from ((file.stem, name) for name in names)
        if file.stem in WHOLE:
            own = module(file.stem).definitions
            yield from ((file.stem, name) for name in own if not name.startswith("_"))
    for file in sorted((RUNTIME / "utils").glob("*.py")):
        inner = f"utils.{file.stem}".removesuffix(".__init__")
        yield from ((inner, name) for name in _offered(inner) or module(inner).imports)


def _offered(name: str) -> tuple[str, ...]:
    """What a module's `__all__` names; nothing if it has none."""
    offered = module(name).constant("__all__")
    return tuple(ast.literal_eval(offered)) if offered else ()
