"""The manifest of a checkpoint: lists its files, with their sizes and checksums.

The manifest is written last, so a directory with a manifest is a complete checkpoint.
"""

import errno
import json
import os
import re
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from runtime.checkpoint import layout
from runtime.checkpoint.checksums import BLOCK, block_starts

MANIFEST = "manifest.json"
_CHECKSUM = "crc32"  # the entry with the checksum of all other entries
LIMIT = 2**24  # bytes of a manifest; an entry for a file of 1 TB has 200 kB
_SHOWN = 12  # files of a checkpoint that an error names
_CHUNK = 2**20  # bytes per read
_READERS = min(os.cpu_count() or 1, 8)  # threads; zlib releases the GIL
_NUMBERED = re.compile(r"checkpoint_(0|[1-9][0-9]{0,17})")


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint; None if there is no manifest, as in Accelerate.

    Raises:
        ValueError: the manifest is damaged.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            content = file.read(LIMIT + 1)
    except FileNotFoundError:
        return None
    return parse(content, str(folder / MANIFEST))


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Return the manifest in a text, whose entries name files inside the checkpoint only.

    Args:
        content: the text, of at most LIMIT bytes.
        where: the path or URL of the text, for messages.

    Raises:
        ValueError: the manifest is damaged.
    """
    try:
        _must_be_short(content)
        found: dict[str, Any] = json.loads(content)
        _must_be_unchanged(found, found.pop(_CHECKSUM, None))
        for name, expected in found["files"].items():
            _check_entry(name, **expected)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        sentence = f"{where} is damaged: {error!r}; load another checkpoint"
        raise ValueError(sentence) from error
    return found


def text(facts: Mapping[str, Any]) -> bytes:
    """Return the text of a manifest, with a checksum of its own."""
    return json.dumps({**facts, _CHECKSUM: _of(facts)}, indent=1).encode()


def _of(facts: Mapping[str, Any]) -> int:
    """Return the checksum of the entries of a manifest, however they are spaced."""
    return zlib.crc32(json.dumps(facts).encode())


def _must_be_unchanged(found: Mapping[str, Any], expected: int | None) -> None:
    """Check the entries of a manifest; older ones have no checksum."""
    if expected is not None and _of(found) != expected:
        raise ValueError("it has changed since it was written")


def _must_be_short(content: bytes) -> None:
    if len(content) > LIMIT:
        sentence = f"a manifest must have at most {LIMIT} bytes"
        raise ValueError(sentence)


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
    new.write_bytes(text(found))
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
    if len(expected["crc32"]) != len(block_starts(expected["bytes"])):
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
            names = sorted(self.names())
            advice = f"{', '.join(names[:_SHOWN])}: prepare what was prepared when it was saved"
            has = advice if names else "no file: pass a directory that save_state has written"
            sentence = f"not in this checkpoint, which has {has}"
            raise FileNotFoundError(errno.ENOENT, sentence, str(self.folder / name))
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
        for start, checksum in zip(block_starts(expected["bytes"]), expected["crc32"], strict=True)
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
    found = number_in(folder.name)
    if found is None:
        sentence = f"the name of {folder} must be checkpoint_ and a number"
        raise ValueError(sentence)
    return found


def number_in(name: str) -> int | None:
    """Return the number in the name of a checkpoint; None if it is another name.

    >>> number_in("checkpoint_12"), number_in("checkpoint_012"), number_in("best")
    (12, None, None)
    """
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def name_of(number: int) -> str:
    """Return the name of the checkpoint with a number."""
    return f"checkpoint_{number}"


def checked(path: Path, durable: bool = True) -> dict[str, Any]:
    """Return the manifest entry of a file that others have written: its size and its checksums.

    Checksums detect accidental changes; they do not protect against forgery.

    Args:
        path: the file.
        durable: whether to flush the file to disk first.
    """
    if durable:
        flush(path)
    size = path.stat().st_size
    return {"bytes": size, "crc32": [_checksum(path, start) for start in block_starts(size)]}


def _checksum(path: Path, start: int) -> int:
    """Return the CRC-32 of the block at an offset; reads chunks that fit in the CPU's cache."""
    chunk, left, checksum = memoryview(bytearray(_CHUNK)), BLOCK, 0
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
