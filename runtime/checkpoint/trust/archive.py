"""Checks the pickles in a file of torch.save before torch reads it; see `opcodes`."""

import io
import os
import struct
import zipfile
from typing import Any, BinaryIO

from runtime.checkpoint.trust.constructors import Unreadable
from runtime.checkpoint.trust.opcodes import scan

_ZIP = b"PK\x03\x04"  # the first bytes of a zip file; torch distinguishes its two formats by them
_LOCAL = struct.Struct("<26s2H")  # the header before a record's name and extra field
_OLD = 5  # the number of pickles at the beginning of a file in torch's old format


def check(f: str | os.PathLike[str] | BinaryIO) -> set[str]:
    """Check all pickles in a file of torch.save.

    Args:
        f: the file or its path. The position of an open file is restored.

    Returns:
        The dotted names of all classes and functions that the pickles refer to.

    Raises:
        Unreadable: the file is not one of torch.save, or reading it would need far more memory
            than its size.
    """
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:  # noqa: PTH123  # any os.PathLike
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
        sentence = f"it must be a file of torch.save, but is damaged: {error}"
        raise Unreadable(sentence) from error


def _record(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a record, without checking its checksum, which torch ignores, too."""
    file.seek(entry.header_offset)
    *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    file.seek(name + extra, os.SEEK_CUR)
    return file.read(entry.file_size)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Check that each record is stored once and uncompressed, as torch.save does.

    Args:
        entries: the entries of the zip file's directory.
        size: the size of the file, in bytes.

    Raises:
        Unreadable: a record is compressed or duplicated, or the records are larger than the file.
    """
    names = [one.filename for one in entries]
    packed = [one.filename for one in entries if one.compress_type != zipfile.ZIP_STORED]
    if packed or len(set(names)) < len(names) or sum(one.file_size for one in entries) > size:
        sentence = (
            f"each record must be stored once and uncompressed, as torch.save does; the file has "
            f"{size} bytes, its records have {sum(one.file_size for one in entries)} bytes, "
            f"{len(packed)} are compressed and {len(names) - len(set(names))} are duplicates"
        )
        raise Unreadable(sentence)
