"""Imports the modules of one package by the names of another."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

_NO_PROGRAM = (
    "{name} is here a module of {package}, which is no program: start a script by "
    "`python -m runtime.launch --as-accelerate SCRIPT`"
)


class Aliases(MetaPathFinder, Loader):
    """Finds each module below one package as the module of the same name below another.

    Both names then stand for the same module object, so that its classes exist once.
    """

    def __init__(self, alias: str, package: str) -> None:
        """Store the names.

        Args:
            alias: the name of the package below which modules are found.
            package: the name of the package that has them.
        """
        self._alias = f"{alias}."
        self._package = f"{package}."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module; None if it is not below the alias, or does not exist.

        Args:
            fullname: the name by which the module is imported.
            path: ignored.
            target: ignored.
        """
        del path, target
        if not fullname.startswith(self._alias):
            return None
        found = importlib.util.find_spec(self._own(fullname))
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return importlib.util.spec_from_loader(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Replace a new module by the one that it stands for, which is imported if need be.

        Args:
            module: the new module.
        """
        sys.modules[module.__name__] = importlib.import_module(self._own(module.__name__))

    def get_code(self, fullname: str) -> CodeType:
        """Refuse to run a module as a program, as `python -m accelerate.commands.launch` would.

        Args:
            fullname: the name of the module.

        Raises:
            ImportError: always.
        """
        package = self._package.removesuffix(".")
        raise ImportError(_NO_PROGRAM.format(name=fullname, package=package), name=fullname)

    def _own(self, fullname: str) -> str:
        return self._package + fullname.removeprefix(self._alias)
