"""Writes a checkpoint's directory atomically: the checkpoint is complete or absent.

A checkpoint is first written to `.unfinished/NAME` on the same file system: inside the target
directory if that exists, since it may be the root of a volume, otherwise in the target's parent.
When all files and the manifest are written, the directory is renamed to the target. If the target
exists, the directory is renamed to `.whole` inside the target, and then its files are moved one by
one. After a crash the next save or load moves the remaining files. Only the files of an older
checkpoint are replaced or removed.

Symbolic links at or below a checkpoint's directory are refused: whoever can create a link there
could cause files elsewhere to be overwritten. Directories above it may be links.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

from runtime.checkpoint import layout
from runtime.checkpoint.manifest import MANIFEST, checked, flush, listed, read, text

UNFINISHED = ".unfinished"
_WHOLE = ".whole"


def begun(target: Path) -> Path:
    """Create an empty directory for a new checkpoint, to be passed to `finished`.

    Its name is that of the target.

    Args:
        target: the directory that the checkpoint will have.

    Returns:
        The new directory.

    Raises:
        ValueError: the target, or a directory in it, is a link or not a directory.
    """
    _must_be_directory(target)
    if target.is_dir():
        recover(target)
    folder = unfinished(target)
    _must_be_directory(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted save
    try:
        folder.mkdir(parents=True)
    except FileNotFoundError:  # meanwhile another save has removed the empty `.unfinished`
        folder.mkdir(parents=True)
    return folder


def unfinished(target: Path) -> Path:
    """Return the directory in which a checkpoint is written until it is complete.

    Args:
        target: the directory that the checkpoint will have.
    """
    box = (target if target.is_dir() else target.parent) / UNFINISHED
    return box / (target.resolve().name or "checkpoint")  # the root has no name


def dropped(folder: Path) -> None:
    """Remove the directory from `begun` of a checkpoint that could not be completed."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_if_empty(folder.parent)


def removed(target: Path) -> None:
    """Remove a checkpoint. If the process dies meanwhile, the rest is in `.unfinished`.

    Args:
        target: the directory of the checkpoint.

    Raises:
        ValueError: `.unfinished` is a link or a file.
    """
    box = target.parent / UNFINISHED
    _must_be_directory(box)
    folder = box / target.name
    shutil.rmtree(folder, ignore_errors=True)
    box.mkdir(exist_ok=True)
    target.rename(folder)
    dropped(folder)


def finished(
    folder: Path,
    target: Path,
    facts: dict[str, Any],
    known: dict[str, Any] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write the manifest of a checkpoint and move it to its target.

    Args:
        folder: the directory from `begun`, with all files of the checkpoint.
        target: the final directory. Files of an older checkpoint there are replaced or removed;
            other files stay.
        facts: additional entries of the manifest.
        known: name of a file -> its manifest entry, for files that are on disk already if durable;
            the others, which hooks and torch have written, are read.
        durable: whether to flush all files to disk before the checkpoint is complete.

    Raises:
        ValueError: in the target, a link or a directory is in the place of a file.
    """
    names = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    files = {name: (known or {}).get(name) or checked(folder / name, durable) for name in names}
    (folder / MANIFEST).write_bytes(text(facts | {"files": files}))
    commit(folder, target, names, durable=durable)


def commit(folder: Path, target: Path, names: Sequence[str], *, durable: bool = True) -> None:
    """Move a complete checkpoint to its target.

    Args:
        folder: the directory from `begun`, with all files of the checkpoint and its manifest.
        target: the final directory. Files of an older checkpoint there are replaced or removed;
            other files stay.
        names: the names of the checkpoint's files, which are on disk already if durable.
        durable: whether to flush the manifest and the names to disk.

    Raises:
        ValueError: in the target, a link or a directory is in the place of a file.
    """
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
    """Move the files of a complete checkpoint from `.whole` to the target, or finish doing so.

    The manifest is moved last. Until then an older manifest stays in the target, which does not
    match the new files.

    Args:
        target: the directory of the checkpoint; nothing happens if it has no `.whole`.
        durable: whether to flush the moved names to disk.

    Raises:
        ValueError: `.whole` is not what an interrupted save leaves behind, or there is a link.
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
            if (whole / name).exists():  # otherwise it was moved before a crash
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
    """Check that each file of a manifest exists with its size, in `.whole` or in the target.

    Args:
        whole: the directory `.whole`.
        target: the directory to which some files may have been moved already.
        files: name -> manifest entry.

    Raises:
        ValueError: a file is missing or has another size.
    """
    for name, expected in files.items():
        path = whole / name if (whole / name).exists() else target / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["bytes"]:
            sentence = (
                f"{whole} must be left by an interrupted save, but its manifest says "
                f"{expected['bytes']} bytes for {name}, which has {size}; remove {whole}"
            )
            raise ValueError(sentence)


def _check_places(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """Check that new files can be moved to a target; return the old files that they replace.

    Args:
        source: the directory of the new files.
        target: the directory to move them to.
        names: the names of the new files.

    Returns:
        The names of the files in the target that the new checkpoint makes obsolete, sorted.

    Raises:
        ValueError: there is a link, a directory in the place of a file, or the reverse.
    """
    names = set(names)
    old = sorted(layout.replaced(layout.names(target), listed(target), names))
    for name in (MANIFEST, *names):
        _must_be_file(source, name)
    for name in (MANIFEST, *names, *old):
        _must_be_file(target, name)
    return old


def _must_be_directory(path: Path) -> None:
    """Check that a path is a directory or does not exist.

    Raises:
        ValueError: the path is a file or a symbolic link.
    """
    if path.is_symlink():
        sentence = (
            f"{path} must be a directory, but is a link to {path.readlink()}; checkpoints are not "
            "written through links: pass the directory itself, or remove the link"
        )
        raise ValueError(sentence)
    if path.exists() and not path.is_dir():
        sentence = f"{path} must be a directory, but is a file"
        raise ValueError(sentence)


def _must_be_file(folder: Path, name: str) -> None:
    """Check that a path in a directory is a regular file or does not exist.

    Args:
        folder: the directory.
        name: the path of the file, relative to the directory.

    Raises:
        ValueError: the path is a directory, or it or one of its parents is a symbolic link.
    """
    path = folder
    for part in PurePath(name).parts[:-1]:
        path /= part
        _must_be_directory(path)
    path = folder / name
    if path.is_symlink() or path.is_dir():
        kind = f"a link to {path.readlink()}" if path.is_symlink() else "a directory"
        sentence = f"{path} must be a file of a checkpoint, but is {kind}: move it elsewhere"
        raise ValueError(sentence)


def _flush_directories(folder: Path, names: Iterable[str]) -> None:
    for inner in sorted({(folder / name).parent for name in names} | {folder}):
        flush(inner)


def _remove_parents(target: Path, name: str) -> None:
    """Remove the empty parent directories, inside the target, of a file that was removed."""
    for parent in PurePath(name).parents[:-1]:
        _remove_if_empty(target / parent)


def _remove_empty(folder: Path) -> None:
    """Remove a directory and its subdirectories, except those with files."""
    for parent, _, _ in os.walk(folder, topdown=False):
        _remove_if_empty(Path(parent))


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # not empty, or missing
        return
