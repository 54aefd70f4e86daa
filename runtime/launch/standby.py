"""A process in reserve: it has imported torch, and becomes a training process when one is needed.

`python -m runtime.launch.standby PIPE [-m] SCRIPT ARGUMENT...` reads the environment variables that
are others in its life from an inherited pipe, as JSON. It ends when its launcher has ended.
"""

import contextlib
import importlib
import json
import os
import runpy
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from runtime.world import reserve

IMPORTED = ("torch", "torch._dynamo", "runtime.accelerator")  # what nearly all trainings import


def main() -> None:
    """Import torch, wait, and run the program."""
    number, *program = sys.argv[1:]
    _call(reserve.NAME)
    env = dict(os.environ)
    _find_modules_as(program)
    _import()
    changed = _wait(int(number))
    _call("python")
    os.environ.update(changed)
    reserve.note([sys.executable, *program], env | changed, os.environ)
    _run(program)


def _find_modules_as(program: list[str]) -> None:
    """Find modules where the program does: a script has its own folder in front of all others."""
    if program[0] != "-m" and not sys.flags.safe_path:
        sys.path[0] = str(Path(program[0]).resolve().parent)


def _import() -> None:
    for name in IMPORTED:
        with contextlib.suppress(ImportError):  # the program tells it, if it needs this at all
            importlib.import_module(name)
    tempfile.tempdir = None  # the program may set TMPDIR


def _wait(pipe: int) -> dict[str, str]:
    """Return the environment variables that are others now; exit if the launcher has ended."""
    with os.fdopen(pipe, "rb") as file:
        text = file.read()
    if not text:
        sys.exit()
    changed: dict[str, str] = json.loads(text)
    return changed


def _call(name: str) -> None:
    """Name this process, for `ps` and for those who look for the process of a rank (Linux)."""
    file = Path("/proc/self/comm")
    if file.exists():
        file.write_text(name)


def _run(program: list[str]) -> None:
    """Run a script or a module as the interpreter does: as `__main__`."""
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        return
    sys.argv, path = program, str(Path(program[0]).absolute())
    main_module = sys.modules["__main__"] = ModuleType("__main__")
    loader = SourceFileLoader("__main__", path)
    vars(main_module).update(__file__=path, __loader__=loader, __builtins__=__builtins__)
    exec(loader.source_to_code(loader.get_data(path), path), vars(main_module))  # noqa: S102  # the script


if __name__ == "__main__":
    main()
