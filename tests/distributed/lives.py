"""Runs programs in forked worlds, one life after the other, each in a process that may die.

`python -m tests.distributed.lives LIBRARY FILE` imports the library once, and forks for each row of
`right.ROWS` the ranks of its lives; a row that hangs or kills its process takes no other with it.
The lives of a row share a directory, in which they run. FILE gets what the last one found.
"""

import contextlib
import importlib
import json
import os
import select
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceleratedjob.local.process import free_port

SECONDS = 200  # for each life


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A world that runs one program; `program(library, **options)` returns what JSON can hold."""

    program: Callable[..., Any]
    size: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # variables that the ranks do not find


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case in which Accelerate 1.15 is wrong."""

    case: str
    accelerate: str  # what it does
    here: str
    lives: tuple[Life, ...]
    wrong: list[Any]  # by rank of the last life
    right: list[Any]
    needs: str | None = None  # a package without which neither can do it


def environment(rank: int, life: Life, port: int) -> dict[str, str]:
    """What torchrun would set in this rank of a pod without a GPU."""
    names = {
        "RANK": rank,
        "WORLD_SIZE": life.size,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": life.size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
    }
    return {name: str(value) for name, value in names.items() if name not in life.without}


def live(library: str, life: Life, folder: str) -> list[Any]:
    """What each rank of a life found; an error's name if it failed, how it died if it did."""
    port = free_port()
    ranks = [_fork(library, life, folder, environment(i, life, port)) for i in range(life.size)]
    return [_told(*rank) for rank in ranks]


def _fork(library: str, life: Life, folder: str, env: Mapping[str, str]) -> tuple[int, int]:
    """A rank: its process id, and where it says what it found."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.environ.update(env)
    os.chdir(folder)
    with os.fdopen(writer, "w") as answer:
        answer.write(json.dumps(_run(library, life)))
    os._exit(0)  # what is registered for the end of a process is the parent's


def _run(library: str, life: Life) -> Any:
    try:
        return life.program(importlib.import_module(library), **life.options)
    except Exception as error:  # noqa: BLE001  # what is raised is what the row is about
        sys.stderr.write(f"{library} {life.program.__name__} {life.options}: {error!r}\n")
        return type(error).__name__


def _told(pid: int, reader: int) -> Any:
    answer = ""
    with os.fdopen(reader) as pipe:
        if select.select([pipe], [], [], SECONDS)[0]:
            answer = pipe.read()
        else:
            os.kill(pid, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(answer) if answer else f"exit code {code}"


def main(library: str, file: str) -> None:
    """Run the lives of all rows."""
    importlib.import_module(library).Accelerator  # noqa: B018  # it imports, so that no fork must,
    importlib.import_module("torch._dynamo")  # nor what each first optimizer imports
    found = {}
    for row in importlib.import_module("tests.distributed.right").ROWS:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            found[row.case] = [live(library, life, folder) for life in row.lives][-1]
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
