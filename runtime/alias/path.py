"""Puts a package `accelerate` first on the path, whose names and modules are those of `runtime`.

A folder on the path has the package and its metadata, as site-packages would have it after an
installation. So `import`, `importlib.util.find_spec` and `importlib.metadata.version` find it by
Python's own means, and processes that are started later find it by PYTHONPATH.
"""

import importlib
import os
import sys

PYTHONPATH = "PYTHONPATH"
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages")  # noqa: PTH100, PTH118, PTH120  # the launcher does not import pathlib
_NAME = "accelerate"


def with_alias(path: str | None) -> str:
    """Return a value of PYTHONPATH by which new processes find the package first.

    Args:
        path: the value so far; None or empty if there is none. An empty part of it stands for the
            working directory.
    """
    others = [one for one in path.split(os.pathsep) if one != FOLDER] if path else []
    return os.pathsep.join([FOLDER, *others])


def as_accelerate() -> None:
    """Let this process, and those that it starts, get this library where they import `accelerate`.

    To be called before anything imports `accelerate`, or a library that looks for it, such as
    transformers. An installed `accelerate` is then not loaded. Calling this again has no effect.

    Raises:
        ImportError: `accelerate` was imported already.
    """
    loaded = sys.modules.get(_NAME)
    file = getattr(loaded, "__file__", None)
    if loaded is not None and not str(file).startswith(FOLDER + os.sep):
        sentence = (
            f"as_accelerate() must come before anything imports accelerate, but {file} is imported "
            "already: call it in the first lines of the script, before the imports of libraries "
            "that use accelerate, or start the script with "
            "`python -m runtime.launch --as-accelerate`"
        )
        raise ImportError(sentence)
    if FOLDER not in sys.path:
        sys.path.insert(0, FOLDER)
        importlib.invalidate_caches()
    os.environ[PYTHONPATH] = with_alias(os.environ.get(PYTHONPATH))
