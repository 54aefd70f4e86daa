"""Where a storm's checkpoints are: a directory or an object store, and memory; and their damage."""

import json
import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstore.fsspec import FsspecStore, register

from runtime.checkpoint import manifest
from runtime.checkpoint.stores.opening import open_store
from runtime.errors import DamagedCheckpoint
from runtime.loop.state import FACT, LoopState


def apart(run: Callable[[], Any]) -> Any:
    """Return the JSON that a function returns in a fork: packages of object stores have threads."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writes, json.dumps(run()).encode())
            code = 0
        except BaseException:  # noqa: BLE001  # whatever it is, it must not go on as the parent
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        found = pipe.read()
    if os.waitpid(pid, 0)[1] or not found:
        raise RuntimeError("the checkpoints could not be looked at")
    return json.loads(found)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of checkpoints.

    Attributes:
        root: the directory.
    """

    root: Path

    @property
    def name(self) -> str:
        """What the environment of a training names."""
        return str(self.root)

    def newest(self) -> int | None:
        """The step of the newest undamaged checkpoint; None if there is none."""
        valid = [one for one in self._all() if manifest.damage(one) is None]
        facts = manifest.read(valid[-1]) if valid else None
        return None if facts is None else LoopState.of(facts[FACT]).step

    def flip(self, chance: random.Random) -> str | None:
        """Change a bit in the newest checkpoint; return where, None if there is none."""
        if not (found := self._all()):
            return None
        path = chance.choice(sorted(one for one in found[-1].rglob("*") if one.is_file()))
        path.write_bytes(flipped(path.read_bytes(), chance))
        return f"{found[-1].name}/{path.name}"

    def lose(self, chance: random.Random) -> str | None:
        """Remove one rank's file of the newest checkpoint; return its name."""
        if not (found := self._all()):
            return None
        path = chance.choice(sorted(found[-1].glob("random_states_*")))
        path.unlink()
        return f"{found[-1].name}/{path.name}"

    def _all(self) -> list[Path]:
        return manifest.checkpoints_in(self.root) if self.root.exists() else []


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix in an object store; only forks of this process speak to it.

    Attributes:
        name: its URL.
    """

    name: str

    def newest(self) -> int | None:
        """The step of the newest undamaged checkpoint; None if there is none."""
        found: int | None = apart(self._newest)
        return found

    def _newest(self) -> int | None:
        register("s3")
        store = open_store(self.name)
        for number in reversed(store.numbers()):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = manifest.read(store.fetch(number, Path(folder))) or {}
                except DamagedCheckpoint:
                    continue
                return LoopState.of(found[FACT]).step
        return None

    def flip(self, chance: random.Random) -> str | None:
        """Change a bit in the newest checkpoint; return where, None if there is none."""
        number = chance.getrandbits(32)
        found: str | None = apart(lambda: self._flip(random.Random(number)))
        return found

    def _flip(self, chance: random.Random) -> str | None:
        register("s3")
        if not (found := open_store(self.name).numbers()):
            return None
        fs, root = FsspecStore("s3"), self.name.removeprefix("s3://")
        name = chance.choice(sorted(fs.find(f"{root}/checkpoint_{found[-1]}")))
        fs.pipe_file(name, flipped(fs.cat_file(name), chance))
        return str(name).removeprefix(root)


Place = Directory | Bucket


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The same with another bit."""
    changed = bytearray(content)
    if changed:
        bit = chance.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def make_bucket() -> None:
    """Make the bucket of all storms."""

    def run() -> None:
        FsspecStore("s3").pipe_file("bucket/exists", b"")

    apart(run)


def machines(memory: Path) -> Iterator[Directory]:
    """The checkpoints in the memory of each machine."""
    for folder in sorted(memory.glob("*/*")):  # the machine, the job
        if folder.is_dir():
            yield Directory(folder)


def lose_machine(memory: Path, chance: random.Random) -> str | None:
    """Empty the memory of one machine; return which, None if there is none."""
    if not (found := list(machines(memory))):
        return None
    one = chance.choice(found).root
    shutil.rmtree(one)
    return f"the memory of {one.parent.name}"
