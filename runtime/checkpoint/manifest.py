"""What belongs to a checkpoint, and whether it is as it was written: its manifest, written last."""

import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from runtime.checkpoint import layout

MANIFEST = "manifest.json"
_BLOCK = 2**26  # bytes of a file that have a checksum of their own, so that threads share the work
_CHUNK = 2**20  # bytes that are read at a time
_READERS = min(os.cpu_count() or 1, 8)  # zlib computes without the interpreter's lock
_NUMBERED = re.compile(r"checkpoint_(0|[1-9][0-9]*)")  # all of a name


def read(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's manifest; None if it has none, as those of Accelerate.

    Raises:
        ValueError: the manifest is no manifest.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text())
        for name, expected in found["files"].items():
            _check_entry(name, **expected)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        sentence = f"{folder / MANIFEST} is damaged: {error!r}; load another checkpoint"
        raise ValueError(sentence) from error
    manifest: dict[str, Any] = found
    return manifest


def listed(folder: Path) -> set[str]:
    """The names of the files that a manifest lists; none, if there is none that can be read."""
    try:
        found = read(folder)
    except ValueError:
        return set()
    return set() if found is None else set(found["files"])


def amend(folder: Path, written: Collection[str]) -> None:
    """Have a manifest say of files that were written anew how they are now.

    Args:
        folder: the checkpoint, if it is one.
        written: names of files; those that do not belong to it are passed over.
    """
    known = listed(folder) & set(written)
    if not known:
        return
    found = read(folder) or {}
    found["files"] |= {name: checked(folder / name) for name in known}
    new = folder / f"{MANIFEST}.new"
    new.write_text(json.dumps(found, indent=1))
    flush(new)
    new.replace(folder / MANIFEST)


def forget(folder: Path) -> None:
    """Remove a manifest: what is written beside it, file by file, is not what it says."""
    (folder / MANIFEST).unlink(missing_ok=True)


def _check_entry(name: str, **expected: Any) -> None:
    """A file inside of the checkpoint, its size, and a checksum for each block.

    Raises:
        ValueError: it is something else.
    """
    path = PurePath(name)
    if not path.parts or b"\0" in os.fsencode(path) or path.is_absolute() or ".." in path.parts:
        sentence = f"{name} is no file of this checkpoint"
        raise ValueError(sentence)
    if len(expected["crc32"]) != len(_blocks(expected["bytes"])):
        sentence = f"{name} has {expected['bytes']} bytes and {len(expected['crc32'])} checksums"
        raise ValueError(sentence)


@dataclass(frozen=True)
class Contents:
    """The files of a checkpoint: those that its manifest lists; without one, those that are there.

    What a save did not write is not part of it, whatever else lies in its directory.
    """

    folder: Path
    listed: frozenset[str] | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Of a directory.

        Raises:
            ValueError: its manifest is no manifest.
        """
        found = read(folder)
        return cls(folder, None if found is None else frozenset(found["files"]))

    def has(self, name: str) -> bool:
        """Whether a file, or a directory with files, belongs to it."""
        if self.listed is None:
            return (self.folder / name).exists()
        return name in self.listed or any(one.startswith(f"{name}/") for one in self.listed)

    def names(self) -> set[str]:
        """Those of its files that lie in its directory itself."""
        if self.listed is None:
            return {one.name for one in self.folder.iterdir()}
        return {PurePath(name).parts[0] for name in self.listed}

    def path(self, name: str) -> Path:
        """Where a file of it lies.

        Raises:
            FileNotFoundError: it has none of that name.
        """
        if not self.has(name):
            raise FileNotFoundError(errno.ENOENT, "this checkpoint has no", str(self.folder / name))
        return self.folder / name


def damage(folder: Path, *, reads: bool = True) -> str | None:
    """What is wrong with a checkpoint; None if every file is as it was written.

    Args:
        folder: the checkpoint.
        reads: every byte; otherwise names and sizes alone are compared.
    """
    try:
        manifest = read(folder)
        if manifest is None:
            return f"{folder} has no {MANIFEST}"
        files = {folder / name: expected for name, expected in manifest["files"].items()}
        return _resized(files) or (_changed(files) if reads else None)
    except (OSError, ValueError) as error:
        return str(error)


def _resized(files: dict[Path, dict[str, Any]]) -> str | None:
    """What is wrong with the first file that is missing, or has another size."""
    for path, expected in files.items():
        if not path.is_file():
            return f"{path} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{path} is not as it was written: {size} bytes of {expected['bytes']}"
    return None


def _changed(files: dict[Path, dict[str, Any]]) -> str | None:
    """What is wrong with the first file whose bytes have another checksum."""
    blocks = [
        (path, start, checksum)
        for path, expected in files.items()
        for start, checksum in zip(_blocks(expected["bytes"]), expected["crc32"], strict=True)
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda block: _checksum(*block[:2]), blocks)
        for (path, start, expected), checksum in zip(blocks, found, strict=True):
            if checksum != expected:
                return f"{path} is not as it was written, at byte {start} or behind"
    return None


def numbered(parent: Path) -> list[Path]:
    """The checkpoints of a project, by number, the newest last: of their exact name and content.

    Directories that others have made are left out, and so are links.
    """
    if not parent.is_dir():
        return []
    found = [one for one in parent.iterdir() if _NUMBERED.fullmatch(one.name)]
    return sorted((one for one in found if _is_checkpoint(one)), key=number)


def _is_checkpoint(path: Path) -> bool:
    """Whether a directory has a manifest, or else what Accelerate saves in each."""
    if path.is_symlink() or not path.is_dir():
        return False
    return (path / MANIFEST).is_file() or layout.is_state(one.name for one in path.iterdir())


def number(folder: Path) -> int:
    """A checkpoint's number: the digits at its end.

    Raises:
        ValueError: it has none.
    """
    match = _NUMBERED.fullmatch(folder.name)
    if match is None:
        sentence = f"{folder} has no number"
        raise ValueError(sentence)
    return int(match[1])


def name_of(number: int) -> str:
    """The name of the checkpoint with a number."""
    return f"checkpoint_{number}"


def retain(parent: Path, limit: int) -> list[Path]:
    """Remove old checkpoints until as many are left; the newest valid one always stays.

    Returns:
        What was removed.
    """
    known = numbered(parent)
    surplus = known[: max(len(known) - limit, 0)]
    # The newest first: it was checked when it was written, a moment ago.
    if surplus and all(damage(one, reads=False) for one in reversed(known[len(surplus) :])):
        return []
    for folder in surplus:
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on it is invalid
        shutil.rmtree(folder)
    return surplus


def checked(path: Path, durable: bool = True) -> dict[str, Any]:
    """What tells a file that is cut short, or has changed by accident; and have it on the disk."""
    if durable:
        flush(path)
    size = path.stat().st_size
    return {"bytes": size, "crc32": [_checksum(path, start) for start in _blocks(size)]}


def _blocks(size: int) -> range:
    """Where the blocks of a file begin.

    >>> len(_blocks(0)), len(_blocks(_BLOCK)), len(_blocks(_BLOCK + 1))
    (0, 1, 2)
    """
    return range(0, size, _BLOCK)


def _checksum(path: Path, start: int) -> int:
    """Of the block that begins there; a chunk at a time, which stays in the processor's cache."""
    chunk, left, checksum = memoryview(bytearray(_CHUNK)), _BLOCK, 0
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (n := file.readinto(chunk[: min(left, _CHUNK)])):
            checksum = zlib.crc32(chunk[:n], checksum)
            left -= n
    return checksum


def flush(path: Path) -> None:
    """Have a file, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
