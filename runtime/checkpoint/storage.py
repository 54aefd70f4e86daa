"""Where a checkpoint is written, and how it gets its place there: all at once, or not at all.

It is written into `.unfinished/NAME` on the file system that it is to stay on: in its own
directory if that is there, which may be the root of a volume, else beside it. When its manifest is
in it, it is renamed. Where there is a directory already, it first becomes `.whole` in that; then
its files are moved, and whoever comes after a crash moves the rest. What it replaces goes, and
nothing else.

No link is followed at or below a checkpoint's directory: who can make one there could have files
overwritten elsewhere. Directories above it may be links.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from runtime.checkpoint import layout
from runtime.checkpoint.manifest import MANIFEST, checked, flush, listed, read

_UNFINISHED = ".unfinished"
_WHOLE = ".whole"


def begun(target: Path) -> Path:
    """An empty directory of the target's name to write a checkpoint in, for `finished`.

    Raises:
        ValueError: the target, or something in it, is a link, or no directory.
    """
    _must_be_directory(target)
    if target.is_dir():
        recover(target)
    folder = unfinished(target)
    _must_be_directory(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)  # of a save that was cut short
    try:
        folder.mkdir(parents=True)
    except FileNotFoundError:  # another save has just removed the box, as it was empty
        folder.mkdir(parents=True)
    return folder


def unfinished(target: Path) -> Path:
    """Where a checkpoint is until it is finished."""
    box = (target if target.is_dir() else target.parent) / _UNFINISHED
    return box / (target.resolve().name or "checkpoint")  # the root has no name


def dropped(folder: Path) -> None:
    """Remove what there is of a checkpoint that is not to be finished."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_if_empty(folder.parent)


def finished(
    folder: Path,
    target: Path,
    facts: dict[str, Any],
    known: dict[str, Any] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Make a written checkpoint valid.

    Args:
        folder: from `begun`, with all its files.
        target: its name; files of another checkpoint there are replaced, others are kept.
        facts: what the manifest is to say besides.
        known: files that `checked` has seen, and what it said.
        durable: have it on the disk before it is valid.

    Raises:
        ValueError: something there is a link, or no file where one must be.
    """
    names = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    files = {name: (known or {}).get(name) or checked(folder / name, durable) for name in names}
    (folder / MANIFEST).write_text(json.dumps(facts | {"files": files}, indent=1))
    if durable:
        flush(folder / MANIFEST)
        _flush_directories(folder, names)
    if target.is_dir():
        _check_places(folder, target, names)
        folder.rename(target / _WHOLE)
        recover(target, durable=durable)
    else:
        folder.rename(target)
        if durable:
            flush(target.parent)
    _remove_if_empty(folder.parent)


def recover(target: Path, *, durable: bool = True) -> None:
    """Go on where a checkpoint that is whole was being put in the place of an older one.

    The manifest is moved last: until then the old one is there, and tells that files have changed.

    Args:
        target: a directory.
        durable: have it on the disk.

    Raises:
        ValueError: what is to be moved is not what a save leaves, or there is a link.
    """
    whole = target / _WHOLE
    _must_be_directory(whole)
    found = read(whole) if whole.is_dir() else None
    if found is not None:
        files = found["files"]
        _must_be_directory(target)
        _check_files(whole, target, files)
        old = _check_places(whole, target, files)
        for name in files:
            if (whole / name).exists():  # else it was moved before the crash
                _place(target, name)
                (whole / name).replace(target / name)
        for name in old:
            (target / name).unlink(missing_ok=True)
            _remove_parents(target, name)
        if durable:
            _flush_directories(target, files)
        (whole / MANIFEST).replace(target / MANIFEST)
        if durable:
            flush(target)
    _remove_empty(whole)


def _place(target: Path, name: str) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)


def _check_files(whole: Path, target: Path, files: dict[str, dict[str, Any]]) -> None:
    """Each file has the size that the manifest says, here or, if it was moved already, there.

    Raises:
        ValueError: one has not.
    """
    for name, expected in files.items():
        path = whole / name if (whole / name).exists() else target / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["bytes"]:
            sentence = (
                f"{whole} must be what a save that was cut short has left: its manifest says "
                f"{expected['bytes']} bytes for {name}, and there are {size}; remove {whole}"
            )
            raise ValueError(sentence)


def _check_places(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """The names in a target that new files make untrue, if nothing there is in the way.

    Raises:
        ValueError: something is a link, or a directory where a file must be, or the reverse.
    """
    names = set(names)
    old = sorted(layout.replaced(layout.names(target), listed(target), names))
    for name in (MANIFEST, *names):
        _must_be_file(source, name)
    for name in (MANIFEST, *names, *old):
        _must_be_file(target, name)
    return old


def _must_be_directory(path: Path) -> None:
    """What is there is a directory of its own, if anything is.

    Raises:
        ValueError: it is something else.
    """
    if path.is_symlink():
        sentence = (
            f"{path} must be a directory, and is a link to {path.readlink()}: a checkpoint is not "
            "written through a link; give the directory itself, or remove the link"
        )
        raise ValueError(sentence)
    if path.exists() and not path.is_dir():
        sentence = f"{path} must be a directory, and is a file"
        raise ValueError(sentence)


def _must_be_file(folder: Path, name: str) -> None:
    """Whatever is there by a name is a file, in directories: neither is a link.

    Raises:
        ValueError: it is something else.
    """
    path = folder
    for part in PurePath(name).parts[:-1]:
        path /= part
        _must_be_directory(path)
    path = folder / name
    if path.is_symlink() or path.is_dir():
        kind = f"a link to {path.readlink()}" if path.is_symlink() else "a directory"
        sentence = f"{path} must be a file of a checkpoint, and is {kind}: move it elsewhere"
        raise ValueError(sentence)


def _flush_directories(folder: Path, names: Iterable[str]) -> None:
    for inner in sorted({(folder / name).parent for name in names} | {folder}):
        flush(inner)


def _remove_parents(target: Path, name: str) -> None:
    """Remove the directories of a file that is gone, as far as they are empty."""
    for parent in PurePath(name).parents[:-1]:
        _remove_if_empty(target / parent)


def _remove_empty(folder: Path) -> None:
    """Remove a directory and those in it, as far as they are empty."""
    for parent, _, _ in os.walk(folder, topdown=False):
        _remove_if_empty(Path(parent))


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # it has something, or is not there
        return
