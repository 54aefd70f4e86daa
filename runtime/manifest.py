"""Checkpoints that are whole or not there: a manifest, written last, says what belongs to one.

A directory is written under another name, checked into its manifest, flushed to the disk, and
renamed. What has no manifest, or does not agree with it, was cut short.

Where a directory of the name is there already, the new one first gets a name that says that it is
whole; then its files are moved, and whoever comes after a crash moves the rest.
"""

import json
import os
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

MANIFEST = "manifest.json"
_UNFINISHED = ".unfinished"  # at the end of a directory's name while it is written
_WHOLE = ".whole"  # at its end while its files are moved to where older ones are
_BLOCK = 2**26  # bytes of a file that have a checksum of their own, so that threads share the work
_CHUNK = 2**20  # bytes that are read at a time
_READERS = min(os.cpu_count() or 1, 8)  # zlib computes without the interpreter's lock
_NUMBER = re.compile(r"_(\d+)$")


def begun(target: Path) -> Path:
    """An empty directory to write a checkpoint in, which is to be finished as `target`."""
    recover(target)
    folder = unfinished(target)
    shutil.rmtree(folder, ignore_errors=True)  # of a save that was cut short
    folder.mkdir(parents=True)
    return folder


def unfinished(target: Path) -> Path:
    """Where a checkpoint is until it is finished."""
    return target.with_name(target.name + _UNFINISHED)


def finished(
    folder: Path,
    target: Path,
    facts: dict[str, Any],
    known: dict[str, Any] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Make a written checkpoint valid: all at once, or not at all.

    Args:
        folder: from `begun`, with all its files.
        target: its name; files of another checkpoint there are replaced, others are kept.
        facts: what the manifest is to say besides.
        known: files that `checked` has seen, and what it said.
        durable: have it on the disk before it is valid.
    """
    names = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    files = {name: (known or {}).get(name) or checked(folder / name, durable) for name in names}
    (folder / MANIFEST).write_text(json.dumps(facts | {"files": files}, indent=1))
    if durable:
        _flush(folder / MANIFEST)
        for inner in sorted({(folder / name).parent for name in names} | {folder}):
            _flush(inner)
    if target.exists():
        folder.rename(target.with_name(target.name + _WHOLE))
        recover(target)
    else:
        folder.rename(target)
    if durable:
        _flush(target.parent)


def recover(target: Path) -> None:
    """Go on where a checkpoint that is whole was being put in the place of an older one.

    The manifest is moved last: until then the old one is there, and tells that files have changed.
    """
    folder = target.with_name(target.name + _WHOLE)
    if not folder.is_dir():
        return
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    files.sort(key=lambda one: one == folder / MANIFEST)
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(folder)


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


def _check_entry(name: str, **expected: Any) -> None:
    """A file inside of the checkpoint, its size, and a checksum for each block.

    Raises:
        ValueError: it is something else.
    """
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        sentence = f"{name} is no file of this checkpoint"
        raise ValueError(sentence)
    if len(expected["crc32"]) != len(_blocks(expected["bytes"])):
        sentence = f"{name} has {expected['bytes']} bytes and {len(expected['crc32'])} checksums"
        raise ValueError(sentence)


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
    """The checkpoints of a project that are finished, by number, the newest last."""
    if not parent.is_dir():
        return []
    found = [one for one in parent.iterdir() if one.is_dir() and _NUMBER.search(one.name)]
    return sorted(found, key=number)


def number(folder: Path) -> int:
    """A checkpoint's number: the digits at its end.

    Raises:
        ValueError: it has none.
    """
    match = _NUMBER.search(folder.name)
    if match is None:
        sentence = f"{folder} has no number"
        raise ValueError(sentence)
    return int(match[1])


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
        _flush(path)
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


def _flush(path: Path) -> None:
    """Have a file, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
