"""Checks a file of torch.save before torch reads it; see `opcodes` for what is refused."""

import io
import os
import struct
import zipfile
from typing import Any, BinaryIO

from runtime.checkpoint.trust.constructors import Unreadable
from runtime.checkpoint.trust.opcodes import scan

_ZIP = b"PK\x03\x04"  # by which torch tells its two formats, too
_LOCAL = struct.Struct("<26s2H")  # a record's header, whose name and extra field come then
_OLD = 5  # pickles at the beginning of a file of the older one


def check(f: str | os.PathLike[str] | BinaryIO) -> set[str]:
    """Check all pickles of a file that torch.save has written; an open one stays where it is.

    Returns:
        The dotted names of the classes and functions that they name.

    Raises:
        Unreadable: it is no such file, or reading it would take memory out of proportion to it.
    """
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:  # noqa: PTH123  # a path of any kind
            return _check(file)
    start = f.tell()
    names = _check(f)
    f.seek(start)
    return names


def _check(file: BinaryIO) -> set[str]:
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    is_zip = file.read(len(_ZIP)) == _ZIP
    file.seek(start)
    if is_zip:
        return _check_zip(file, size)
    return set().union(*(scan(file, start + size - file.tell()) for _ in range(_OLD)))


def _check_zip(file: Any, size: int) -> set[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, size)
            pickles = [one for one in entries if one.filename.endswith(".pkl")]
            return set().union(
                *(scan(io.BytesIO(_record(file, one)), one.file_size) for one in pickles)
            )
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        sentence = f"it must be a file that torch.save has written, and is damaged: {error}"
        raise Unreadable(sentence) from error


def _record(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """A record's bytes; their checksum is not looked at, as torch does not."""
    file.seek(entry.header_offset)
    *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    file.seek(name + extra, os.SEEK_CUR)
    return file.read(entry.file_size)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Whether each record is in the file once, as it is: torch neither compresses nor repeats."""
    names = [one.filename for one in entries]
    packed = [one.filename for one in entries if one.compress_type != zipfile.ZIP_STORED]
    if packed or len(set(names)) < len(names) or sum(one.file_size for one in entries) > size:
        sentence = (
            f"its records must be in it once and uncompressed, as torch.save writes them; it has "
            f"{size} bytes, and records of {sum(one.file_size for one in entries)}, of which "
            f"{len(packed)} are compressed and {len(names) - len(set(names))} are there twice"
        )
        raise Unreadable(sentence)
