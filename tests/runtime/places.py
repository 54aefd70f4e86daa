"""The places for checkpoints that the tests of stores run with, and how a writer dies in them."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from runtime.checkpoint import atomic, manifest
from runtime.checkpoint.stores.bucket import Bucket
from runtime.checkpoint.stores.retries import Retries
from runtime.checkpoint.stores.store import Store
from runtime.checkpoint.stores.volume import Volume

EMPTY = "hook's/empty.txt"
FILES = {"model.safetensors": b"weights", "part/__0_0.distcp": b"shard", EMPTY: b""}


class Died(BaseException):
    """A writer's death: no code of a dead writer changes anything."""


class Life:
    """Counts the operations of a writer, and ends it at one of them."""

    def __init__(self, last: int | None = None) -> None:
        """Begin; `last` is the number of operations that are done, None for all."""
        self.last = last
        self.done = 0

    def do(self) -> None:
        """Count an operation that is about to be done.

        Raises:
            Died: the writer is dead.
        """
        if self.last is not None and self.done >= self.last:
            raise Died
        self.done += 1


class Mortal:
    """An fsspec file system whose user dies; reads are no operations."""

    def __init__(self, fs: Any, life: Life) -> None:
        self._fs, self._life = fs, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name)
        if name not in {"put_file", "pipe_file", "rm_file"}:
            return method

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._life.do()
            return method(*args, **kwargs)

        return counted


class Watched:
    """An audit hook, which counts calls that change files, in a context; it cannot be removed."""

    life: ClassVar[Life | None] = None
    is_there: ClassVar[bool] = False

    @classmethod
    @contextmanager
    def during(cls, life: Life) -> Iterator[None]:
        if not cls.is_there:
            sys.addaudithook(cls._see)
            cls.is_there = True
        cls.life = life
        try:
            yield
        finally:
            cls.life = None

    @classmethod
    def _see(cls, event: str, args: tuple[Any, ...]) -> None:
        is_written = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if cls.life is not None and (is_written or event in _CHANGES):
            cls.life.do()


_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link"}


class InVolume:
    """A directory."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkpoints"

    def store(self, keep: int | None = None) -> Store:
        return Store(Volume(self.root), keep)

    @contextmanager
    def dying(self, life: Life, keep: int) -> Iterator[Store]:
        with Watched.during(life):
            yield self.store(keep)

    def put(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)

    def get(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def drop(self, name: str) -> None:
        (self.root / name).unlink()

    def names(self) -> set[str]:
        found = (one for one in self.root.rglob("*") if one.is_file())
        return {str(one.relative_to(self.root)) for one in found}

    def leave_unfinished(self, number: int) -> None:
        self.put(f".unfinished/checkpoint_{number}/model.safetensors", b"half")


class InBucket:
    """A prefix of an object store."""

    def __init__(self, folder: Path, fs: Any, root: str) -> None:
        self.folder, self.fs, self.root = folder, fs, root

    def store(self, keep: int | None = None, *, fs: Any = None) -> Store:
        retries = Retries(attempts=3, sleep=lambda _: None)
        bucket = Bucket(
            fs or self.fs,
            self.root,
            name=f"s3://{self.root}",
            staging=self.folder / "staging",
            retries=retries,
        )
        return Store(bucket, keep)

    @contextmanager
    def dying(self, life: Life, keep: int) -> Iterator[Store]:
        yield self.store(keep, fs=Mortal(self.fs, life))

    def put(self, name: str, content: bytes) -> None:
        self.fs.pipe_file(f"{self.root}/{name}", content)

    def get(self, name: str) -> bytes:
        found: bytes = self.fs.cat_file(f"{self.root}/{name}")
        return found

    def drop(self, name: str) -> None:
        self.fs.rm_file(f"{self.root}/{name}")

    def names(self) -> set[str]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(self.root, detail=True)
        except FileNotFoundError:
            return set()
        prefix = f"{self.root}/"
        return {one.removeprefix(prefix) for one in found if _is_object(one, found, prefix)}

    def leave_unfinished(self, number: int) -> None:
        self.put(f"checkpoint_{number}/.unfinished", b"")
        self.put(f"checkpoint_{number}/model.safetensors", b"half")


def _is_object(name: str, found: dict[str, Any], prefix: str) -> bool:
    """Whether it is none of the empty objects that SeaweedFS lists for directories."""
    is_parent = not found[name]["size"] and not name.rpartition("/")[2].count(".")
    return name.startswith(prefix) and found[name]["type"] == "file" and not is_parent


Place = InVolume | InBucket


def checkpoint(folder: Path, number: int, files: dict[str, bytes] | None = None) -> Path:
    """A local directory with a complete checkpoint, whose contents name its number."""
    target = folder / f"local/checkpoint_{number}"
    shutil.rmtree(target, ignore_errors=True)
    made = atomic.begun(target)
    for name, content in numbered(files or FILES, number).items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    atomic.finished(made, target, {}, durable=False)
    return target


def content(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint."""
    assert manifest.damage(folder) is None
    return {name: (folder / name).read_bytes() for name in manifest.listed(folder)}


def expected(number: int) -> dict[str, bytes]:
    return numbered(FILES, number)


def numbered(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """The contents of a checkpoint, all but the empty one with its number."""
    return {name: one and one + b"%d" % number for name, one in files.items()}
