"""Checkpoints on machines that share a directory or do not: `python spreading.py` writes JSON.

Each rank is told which machine it is on by its local rank; all are processes of this machine.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from runtime.checkpoint import atomic, manifest
from runtime.checkpoint.sharing import must_be_shared, must_be_writable
from runtime.checkpoint.spreading import on_each_machine
from runtime.errors import CheckpointError
from runtime.world.state import PartialState
from tests.distributed.forks import world
from tests.distributed.world import environment

# Name of a world -> the local rank of each of its ranks.
WORLDS = {
    "one": [0],
    "one pod of two": [0, 1],
    "two pods": [0, 0],
    "two pods of two": [0, 1, 0, 1],
    "four": [0, 0, 0, 0],
}
_SMALL = 50  # bytes
NOBODY = 65534  # a user that may write nowhere
FILES = {"model.safetensors": 40 * 2**20 + 5, "random_states_0.pkl": 0, "part/x": 3}


class Opened:
    """An audit hook: the paths that were opened."""

    names: ClassVar[list[str]] = []

    @classmethod
    def see(cls, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            cls.names.append(str(args[0]))


def made(folder: Path) -> Path:
    """A checkpoint, by this process."""
    target = folder / "checkpoint_3"
    inside = atomic.begun(target)
    for name, size in FILES.items():
        (inside / name).parent.mkdir(exist_ok=True)
        (inside / name).write_bytes(os.urandom(size))
    atomic.finished(inside, target, {}, durable=False)
    return target


def small(folder: Path) -> Path:
    """A checkpoint whose manifest is larger than its file."""
    inside = atomic.begun(folder)
    (inside / "x").write_bytes(b"123")
    atomic.finished(inside, folder, {}, durable=False)
    return folder


def limited(folder: Path) -> dict[str, Any]:
    """What a rank has of a checkpoint if all but rank 0 can write small files only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not PartialState().is_main_process:
        resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL, hard))
    try:
        return spread(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def spread(folder: Path, into: Path | None = None) -> dict[str, Any]:
    """What this rank has of the checkpoint, which only rank 0 can name."""
    Opened.names.clear()
    before = _read()
    try:
        named = folder if PartialState().is_main_process else None
        with on_each_machine(named, into=into) as own:
            read = _read() - before
            problem = manifest.damage(own)
            names = sorted(manifest.listed(own))
            is_own = own == folder
    except CheckpointError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    opened = any(one.startswith(str(folder)) for one in Opened.names)
    return {
        "problem": problem,
        "names": names,
        "is own": is_own,
        "opens storage": opened,
        "read": read,
        "own": str(own),
    }


def _read() -> int:
    path = Path("/proc/self/io")
    return int(path.read_text().split()[1]) if path.exists() else 0


def said(check: Callable[[], None], *, as_nobody: bool = False) -> str | None:
    """What is said of a directory."""
    if as_nobody:
        os.seteuid(NOBODY)
    try:
        check()
    except CheckpointError as error:
        return str(error)
    finally:
        if as_nobody:
            os.seteuid(0)
    return None


def shared(folder: Path, *, as_nobody: bool = False) -> str | None:
    """The same of one for all."""
    return said(lambda: must_be_shared(folder, patience=0.3), as_nobody=as_nobody)


def rank(folder: Path, _: int, name: str) -> Any:
    """All cases in one rank of a world."""
    sys.addaudithook(Opened.see)
    state = PartialState(cpu=True)
    own = folder / name / str(state.process_index)
    found: dict[str, Any] = {"whole": spread(folder / "checkpoint_3")}
    found["damaged"] = spread(folder / "damaged")
    found["no room"] = spread(folder / "checkpoint_3", folder / "missing")
    found["no room for the manifest"] = limited(folder / "small")
    found["shared"] = shared(folder / name / "shared")
    found["not shared"] = shared(own)
    found["a file"] = shared(folder / "checkpoint_3" / "manifest.json")
    is_last = os.geteuid() == 0 and state.process_index == state.num_processes - 1 > 0
    found["last cannot write"] = shared(folder / name / "readable", as_nobody=is_last)
    found["cannot write on its machine"] = said(
        lambda: must_be_writable(folder / name / "new"), as_nobody=is_last
    )
    found["whole"]["left"] = Path(found["whole"]["own"]).exists()  # all have met since
    found["left"] = [str(one) for one in (folder / name).rglob("*") if one.is_file()]
    state.destroy_process_group()
    return found


def main() -> None:
    """Worlds of all shapes."""
    found = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        folder.chmod(0o711)  # for the rank that is nobody
        damaged = shutil.copytree(made(folder), folder / "damaged")
        small(folder / "small")
        with (damaged / "model.safetensors").open("r+b") as file:
            file.seek(39 * 2**20)
            file.write(b"changed")
        for name, local in WORLDS.items():

            def env(number: int, size: int, port: int, local: list[int] = local) -> dict[str, str]:
                own = {"LOCAL_RANK": str(local[number]), "LOCAL_WORLD_SIZE": str(max(local) + 1)}
                return environment(number, size, port) | own

            found[name] = world(len(local), rank, folder, name, env=env)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
