"""Checkpoints that are whole or not there: a manifest, written last, says what belongs to one.

A directory is written under another name, checked into its manifest, flushed to the disk, and
renamed. What has no manifest, or does not agree with it, was cut short.
"""

import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_UNFINISHED = ".unfinished"  # at the end of a directory's name while it is written
_CHUNK = 2**22  # bytes that are read at a time
_NUMBER = re.compile(r"_(\d+)$")


def begun(target: Path) -> Path:
    """An empty directory to write a checkpoint in, which is to be finished as `target`."""
    folder = target.with_name(target.name + _UNFINISHED)
    shutil.rmtree(folder, ignore_errors=True)  # of a save that was cut short
    folder.mkdir(parents=True)
    return folder


def finished(folder: Path, target: Path, facts: dict[str, Any]) -> None:
    """Make a written checkpoint valid: all at once, or not at all.

    Args:
        folder: from `begun`, with all its files.
        target: its name; files of another checkpoint there are replaced, others are kept.
        facts: what the manifest is to say besides.
    """
    names = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    files = {name: _fingerprint(folder / name) for name in names}
    _write(folder / MANIFEST, json.dumps(facts | {"files": files}, indent=1))
    for name in names:
        _flush(folder / name)
    _flush(folder)
    if target.exists():
        _replace(folder, target, [*names, MANIFEST])
    else:
        folder.rename(target)
    _flush(target.parent)


def _replace(folder: Path, target: Path, names: list[str]) -> None:
    """Move files into a directory that is there; until the last one, it is invalid."""
    (target / MANIFEST).unlink(missing_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(target / name)
    _flush(target)
    shutil.rmtree(folder)


def read(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's manifest; None if it has none, as those of Accelerate.

    Raises:
        ValueError: the manifest is no manifest.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text())
        _ = found["files"].items()
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        sentence = f"{folder / MANIFEST} is damaged: {error!r}; load another checkpoint"
        raise ValueError(sentence) from error
    manifest: dict[str, Any] = found
    return manifest


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file is as it was written."""
    try:
        manifest = read(folder)
    except ValueError as error:
        return str(error)
    if manifest is None:
        return f"{folder} has no {MANIFEST}"
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if _fingerprint(path) != expected:
            return f"{path} is not as it was written"
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
    if surplus and all(damage(one) for one in known[len(surplus) :]):
        return []
    for folder in surplus:
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on it is invalid
        shutil.rmtree(folder)
    return surplus


def _fingerprint(path: Path) -> dict[str, int]:
    """Enough to tell a file that was cut short, or has changed by accident."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return {"bytes": path.stat().st_size, "crc32": checksum}


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    _flush(path)


def _flush(path: Path) -> None:
    """Have a file, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
