"""The manifest of a checkpoint: lists its files, with their sizes and checksums.

The manifest is written last, so a directory with a manifest is a complete checkpoint.
"""

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
_BLOCK = 2**26  # bytes per checksum; several checksums per file can be computed in parallel
_CHUNK = 2**20  # bytes per read
_READERS = min(os.cpu_count() or 1, 8)  # threads; zlib releases the GIL
_NUMBERED = re.compile(r"checkpoint_(0|[1-9][0-9]*)")


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint; None if there is no manifest, as in Accelerate.

    Raises:
        ValueError: the manifest is damaged.
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
    """Return the names of the files that a manifest lists; empty if no manifest can be read."""
    try:
        found = read(folder)
    except ValueError:
        return set()
    return set() if found is None else set(found["files"])


def amend(folder: Path, written: Collection[str]) -> None:
    """Update the sizes and checksums of files that were overwritten.

    Args:
        folder: a directory, which need not be a checkpoint.
        written: the names of the files; names that the manifest does not list are ignored.
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
    """Remove the manifest, because files of the directory are about to be overwritten singly."""
    (folder / MANIFEST).unlink(missing_ok=True)


def _check_entry(name: str, **expected: Any) -> None:
    """Check an entry of a manifest.

    Args:
        name: the path of a file inside the checkpoint.
        **expected: its size as `bytes`, and its checksums, one per block, as `crc32`.

    Raises:
        ValueError: the path is not inside the checkpoint, or a checksum is missing.
    """
    path = PurePath(name)
    if not path.parts or b"\0" in os.fsencode(path) or path.is_absolute() or ".." in path.parts:
        sentence = f"{name} is not a path inside this checkpoint"
        raise ValueError(sentence)
    if len(expected["crc32"]) != len(_blocks(expected["bytes"])):
        sentence = (
            f"{name} has {expected['bytes']} bytes, which need another number of checksums than "
            f"{len(expected['crc32'])}"
        )
        raise ValueError(sentence)


@dataclass(frozen=True)
class Contents:
    """The files of a checkpoint: those of its manifest, or all files if it has no manifest.

    Other files in the directory of a checkpoint do not belong to it.

    Attributes:
        folder: the directory.
        listed: the names of the files in the manifest; None if there is no manifest.
    """

    folder: Path
    listed: frozenset[str] | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the contents of a checkpoint's directory.

        Raises:
            ValueError: the manifest is damaged.
        """
        found = read(folder)
        return cls(folder, None if found is None else frozenset(found["files"]))

    def has(self, name: str) -> bool:
        """Whether a file, or a directory with files, belongs to the checkpoint."""
        if self.listed is None:
            return (self.folder / name).exists()
        return name in self.listed or any(one.startswith(f"{name}/") for one in self.listed)

    def names(self) -> set[str]:
        """Return the names of files and directories at the top level of the checkpoint."""
        if self.listed is None:
            return {one.name for one in self.folder.iterdir()}
        return {PurePath(name).parts[0] for name in self.listed}

    def path(self, name: str) -> Path:
        """Return the path of a file or directory of the checkpoint.

        Raises:
            FileNotFoundError: the checkpoint has no file or directory of that name.
        """
        if not self.has(name):
            raise FileNotFoundError(errno.ENOENT, "not in this checkpoint", str(self.folder / name))
        return self.folder / name


def damage(folder: Path, *, reads: bool = True) -> str | None:
    """Return a description of a checkpoint's damage; None if all files match the manifest.

    Args:
        folder: the checkpoint.
        reads: whether to read every byte and compare checksums; otherwise only names and sizes are
            compared.
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
    """Describe the first file that is missing or has the wrong size; None if there is none."""
    for path, expected in files.items():
        if not path.is_file():
            return f"{path} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{path} has changed since it was written: {size} bytes of {expected['bytes']}"
    return None


def _changed(files: dict[Path, dict[str, Any]]) -> str | None:
    """Describe the first file with a wrong checksum; None if there is none."""
    blocks = [
        (path, start, checksum)
        for path, expected in files.items()
        for start, checksum in zip(_blocks(expected["bytes"]), expected["crc32"], strict=True)
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda block: _checksum(*block[:2]), blocks)
        for (path, start, expected), checksum in zip(blocks, found, strict=True):
            if checksum != expected:
                return f"{path} has changed since it was written, at byte {start} or after"
    return None


def checkpoints_in(parent: Path) -> list[Path]:
    """Return the numbered checkpoints in a directory, in the order of their numbers.

    Symbolic links are excluded, and so are directories that are not checkpoints.
    """
    if not parent.is_dir():
        return []
    found = [one for one in parent.iterdir() if _NUMBERED.fullmatch(one.name)]
    return sorted((one for one in found if _is_checkpoint(one)), key=number)


def _is_checkpoint(path: Path) -> bool:
    """Whether a directory has a manifest, or the files of a checkpoint of Accelerate."""
    if path.is_symlink() or not path.is_dir():
        return False
    return (path / MANIFEST).is_file() or layout.is_state(one.name for one in path.iterdir())


def number(folder: Path) -> int:
    """Return the number at the end of a checkpoint's name.

    Raises:
        ValueError: the name is not `checkpoint_` and a number.
    """
    match = _NUMBERED.fullmatch(folder.name)
    if match is None:
        sentence = f"the name of {folder} must be checkpoint_ and a number"
        raise ValueError(sentence)
    return int(match[1])


def name_of(number: int) -> str:
    """Return the name of the checkpoint with a number."""
    return f"checkpoint_{number}"


def retain(parent: Path, limit: int) -> list[Path]:
    """Remove the oldest checkpoints, unless all others are damaged.

    Args:
        parent: the directory of the checkpoints.
        limit: the number of checkpoints to keep.

    Returns:
        The checkpoints that were removed.
    """
    known = checkpoints_in(parent)
    surplus = known[: max(len(known) - limit, 0)]
    # The newest first: it has been written a moment ago, so it most likely ends the search.
    if surplus and all(damage(one, reads=False) for one in reversed(known[len(surplus) :])):
        return []
    for folder in surplus:
        (folder / MANIFEST).unlink(missing_ok=True)  # first: marks the checkpoint as incomplete
        shutil.rmtree(folder)
    return surplus


def checked(path: Path, durable: bool = True) -> dict[str, Any]:
    """Return the manifest entry of a file: its size and its checksums.

    Checksums detect accidental changes; they do not protect against forgery.

    Args:
        path: the file.
        durable: whether to flush the file to disk first.
    """
    if durable:
        flush(path)
    size = path.stat().st_size
    return {"bytes": size, "crc32": [_checksum(path, start) for start in _blocks(size)]}


def _blocks(size: int) -> range:
    """Return the offsets at which the blocks of a file begin.

    >>> len(_blocks(0)), len(_blocks(_BLOCK)), len(_blocks(_BLOCK + 1))
    (0, 1, 2)
    """
    return range(0, size, _BLOCK)


def _checksum(path: Path, start: int) -> int:
    """Return the CRC-32 of the block at an offset; reads chunks that fit in the CPU's cache."""
    chunk, left, checksum = memoryview(bytearray(_CHUNK)), _BLOCK, 0
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (n := file.readinto(chunk[: min(left, _CHUNK)])):
            checksum = zlib.crc32(chunk[:n], checksum)
            left -= n
    return checksum


def flush(path: Path) -> None:
    """Flush a file, or the names in a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
