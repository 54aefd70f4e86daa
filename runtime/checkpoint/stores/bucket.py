"""Checkpoints in an object store, through fsspec.

The objects of a checkpoint are `checkpoint_<number>/<name of the file>`, so that a copy of them is
a directory that `load_state` reads. An empty object `.unfinished` is written first, and the
manifest last: the manifest is the commit. Without a manifest, objects are what a dead writer has
left if there is an `.unfinished`, and foreign otherwise.

Object stores replace an object at once, and never show a part of it; this is all that is assumed
of them. Listings may be stale.
"""

import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from runtime.checkpoint import atomic, manifest
from runtime.checkpoint.checksums import BLOCK, block_starts
from runtime.checkpoint.manifest import LIMIT, MANIFEST
from runtime.checkpoint.stores.protocol import Listed
from runtime.checkpoint.stores.retries import Retries, failed
from runtime.checkpoint.threads import each
from runtime.errors import DamagedCheckpoint

Result = TypeVar("Result")
_TRANSFERS = 4  # threads; each has up to one block of a file in memory
_REMOVALS = 8  # threads


class Bucket:
    """The part of an object store whose object names begin with a prefix.

    Attributes:
        name: the URL of the prefix.
        replaces: false.
    """

    replaces = False

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        name: str,
        staging: Path | None = None,
        retries: Retries | None = None,
    ) -> None:
        """Take a prefix, which need not exist.

        Args:
            fs: an fsspec file system.
            root: the prefix, as a path of that file system.
            name: the URL of the prefix, for messages; without credentials.
            staging: a local directory for a checkpoint until it is uploaded, whose other
                checkpoints are removed; by default a temporary one, which is removed at exit.
            retries: how often operations are tried.
        """
        self.name = name.rstrip("/")
        self._fs = fs
        self._root = root.rstrip("/")
        self._staging = staging
        self._retries = retries or Retries()

    def stage(self, number: int) -> Path:
        """Return a directory for a checkpoint, after removing those of failed uploads."""
        if self._staging is None:
            self._staging = Path(tempfile.mkdtemp(prefix="checkpoints-"))
            weakref.finalize(self, shutil.rmtree, self._staging, ignore_errors=True)
        for left in (*manifest.checkpoints_in(self._staging), self._staging / atomic.UNFINISHED):
            shutil.rmtree(left, ignore_errors=True)
        return self._staging / manifest.name_of(number)

    def list(self) -> list[Listed]:
        """Return the numbered checkpoints with a manifest, or with an `.unfinished`."""
        found = []
        for entry in self._listed(""):
            number = manifest.number_in(entry)
            names = self._listed(f"{entry}/") if number is not None else {}
            if number is not None and (MANIFEST in names or atomic.UNFINISHED in names):
                found.append(Listed(number, is_complete=MANIFEST in names))
        return sorted(found, key=lambda one: one.number)

    def damage(self, number: int, *, reads: bool) -> str | None:  # noqa: ARG002  # the protocol's
        """Return what is wrong with the names and sizes; `read` compares the checksums."""
        try:
            self._files(number)
        except DamagedCheckpoint as error:
            return str(error)
        return None

    def manifest(self, number: int) -> dict[str, Any]:
        """Return the manifest of a checkpoint, whose objects have the listed sizes."""
        return manifest.parse(self._files(number)[0], self._url(number, MANIFEST))

    def written(self, number: int) -> float | None:
        """Return when the manifest was written; None if the file system does not tell."""
        path = self._path(number, MANIFEST)
        try:
            found: float = self._fs.modified(path).timestamp()
        except (NotImplementedError, OSError, ValueError):
            return None
        return found

    def read(self, number: int, into: Path) -> Path:
        """Download the listed files, comparing checksums meanwhile, to a directory in `into`.

        A complete copy that is there already is used again.
        """
        content, files = self._files(number)
        target = into / manifest.name_of(number)
        try:
            if _has(target, content):
                return target
            folder = atomic.begun(target)
            try:
                self._download(number, files, folder)
                (folder / MANIFEST).write_bytes(content)
                atomic.commit(folder, target, sorted(files), durable=False)
            except BaseException:
                atomic.dropped(folder)
                raise
        except (OSError, ValueError) as error:
            raise failed(f"copy {self._url(number)} to {target}", error) from error
        return target

    def write(self, number: int, folder: Path) -> None:
        """Upload the files of a checkpoint; one of the same number is not complete any more."""
        problem = manifest.damage(folder, reads=False)
        if problem is not None:
            raise DamagedCheckpoint(problem)
        self._put(number, atomic.UNFINISHED, b"")
        self._delete(number, [MANIFEST])
        names = sorted(manifest.listed(folder))
        each(_TRANSFERS, lambda name: self._upload(number, name, folder), names)

    def commit(self, number: int, folder: Path) -> None:
        """Upload the manifest, and remove the local directory if it is the staged one."""
        self._put(number, MANIFEST, (folder / MANIFEST).read_bytes())
        self._delete(number, [atomic.UNFINISHED])
        if folder.parent == self._staging:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, number: int) -> None:
        """Remove the objects of a checkpoint: its manifest first, `.unfinished` last."""
        names = set(self._found(number))
        if atomic.UNFINISHED not in names:
            self._put(number, atomic.UNFINISHED, b"")
        self._delete(number, [MANIFEST])
        self._delete(number, names - {MANIFEST, atomic.UNFINISHED})
        self._delete(number, [atomic.UNFINISHED])

    def _files(self, number: int) -> tuple[bytes, dict[str, Any]]:
        """Return the manifest of a checkpoint, and its entries, which match the listed sizes.

        Raises:
            DamagedCheckpoint: the manifest is missing or damaged, or a file is missing or has
                another size.
        """
        where, sizes = self._url(number, MANIFEST), self._found(number)
        size = sizes.get(MANIFEST)
        if size is None or not 0 < size <= LIMIT:
            sentence = f"{where} must have 1 to {LIMIT} bytes, got {size}"
            raise DamagedCheckpoint(sentence)
        try:
            content: bytes = self._run(
                f"read {where}", lambda: self._fs.cat_file(self._path(number, MANIFEST))
            )
            files: dict[str, Any] = manifest.parse(content, where)["files"]
        except (FileNotFoundError, ValueError) as error:
            raise DamagedCheckpoint(f"{where} cannot be used: {error}") from error
        for name, expected in files.items():
            self._must_have(number, name, sizes, expected["bytes"])
        return content, files

    def _must_have(self, number: int, name: str, sizes: dict[str, int], expected: int) -> None:
        """Check that an object is listed with its size.

        Raises:
            DamagedCheckpoint: it is not.
        """
        where, size = self._url(number, name), sizes.get(name)
        if size is None:
            raise DamagedCheckpoint(f"{where} is missing")
        if size != expected:
            sentence = f"{where} has changed since it was written: {size} bytes of {expected}"
            raise DamagedCheckpoint(sentence)

    def _download(self, number: int, files: dict[str, Any], folder: Path) -> None:
        for name, expected in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as file:
                file.truncate(expected["bytes"])
        blocks = [
            (name, start, checksum)
            for name, expected in files.items()
            for start, checksum in zip(
                block_starts(expected["bytes"]), expected["crc32"], strict=True
            )
        ]
        each(_TRANSFERS, lambda block: self._block(number, folder, *block), blocks)

    def _block(self, number: int, folder: Path, name: str, start: int, checksum: int) -> None:
        """Download a block of a file.

        Raises:
            DamagedCheckpoint: it has another checksum, or is missing.
        """
        path, where = self._path(number, name), self._url(number, name)
        end = min(start + BLOCK, (folder / name).stat().st_size)
        try:
            content = self._run(
                f"read {where}", lambda: self._fs.cat_file(path, start=start, end=end)
            )
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"{where} is missing") from error
        if len(content) != end - start or zlib.crc32(content) != checksum:
            sentence = f"{where} has changed since it was written, at byte {start} or after"
            raise DamagedCheckpoint(sentence)
        with (folder / name).open("r+b") as file:
            file.seek(start)
            file.write(content)

    def _upload(self, number: int, name: str, folder: Path) -> None:
        path, where = self._path(number, name), self._url(number, name)
        self._written(where, lambda: self._fs.put_file(os.fspath(folder / name), path))

    def _put(self, number: int, name: str, content: bytes) -> None:
        path, where = self._path(number, name), self._url(number, name)
        self._written(where, lambda: self._fs.pipe_file(path, content))

    def _written(self, where: str, operation: Callable[[], Any]) -> None:
        try:
            self._run(f"write {where}", operation)
        except FileNotFoundError as error:  # the bucket, not the object
            raise failed(f"write {where}", error) from error

    def _delete(self, number: int, names: Iterable[str]) -> None:
        def delete(name: str) -> None:
            where, path = self._url(number, name), self._path(number, name)
            try:
                self._run(f"remove {where}", lambda: self._fs.rm_file(path))
            except FileNotFoundError:
                return

        each(_REMOVALS, delete, sorted(names))

    def _found(self, number: int) -> dict[str, int]:
        """Return the objects of a checkpoint: name -> bytes."""
        prefix = self._path(number)
        try:
            entries = self._fresh(f"list {self._url(number)}", "find", prefix)
        except FileNotFoundError:
            return {}
        # Some stores list a prefix itself, as an empty object.
        return {
            path.removeprefix(f"{prefix}/"): int(entry["size"] or 0)
            for path, entry in entries.items()
            if path.startswith(f"{prefix}/") and entry["type"] == "file"
        }

    def _listed(self, inner: str) -> set[str]:
        """Return the last parts of the names below a prefix, one level deep."""
        prefix = f"{self._root}/{inner}".rstrip("/")
        try:
            entries = self._fresh(f"list {self.name}/{inner}", "ls", prefix)
        except FileNotFoundError:
            return set()
        return {entry["name"].rstrip("/").rpartition("/")[2] for entry in entries}

    def _fresh(self, action: str, method: str, prefix: str) -> Any:
        """Return a listing that fsspec has not cached."""
        self._fs.invalidate_cache()
        return self._run(action, lambda: getattr(self._fs, method)(prefix, detail=True))

    def _run(self, action: str, operation: Callable[[], Result]) -> Result:
        return self._retries.run(action, operation)

    def _path(self, number: int, name: str = "") -> str:
        return f"{self._root}/{manifest.name_of(number)}/{name}".rstrip("/")

    def _url(self, number: int, name: str = "") -> str:
        return f"{self.name}/{manifest.name_of(number)}/{name}".rstrip("/")


def _has(target: Path, content: bytes) -> bool:
    """Whether a directory is an undamaged copy of the checkpoint with this manifest."""
    path = target / MANIFEST
    if target.is_symlink() or not path.is_file() or path.stat().st_size != len(content):
        return False
    return path.read_bytes() == content and manifest.damage(target) is None
