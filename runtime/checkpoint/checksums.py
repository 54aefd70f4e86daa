"""Computes the checksums of a file while it is written, so that it need not be read again."""

import ctypes
import io
import json
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from runtime.checkpoint.threads import Beside

BLOCK = 2**26  # bytes per checksum; several checksums per file can be computed in parallel
_LARGE = 2**20  # bytes; hashing as many takes longer than handing them to another thread


def block_starts(size: int) -> range:
    """Return the offsets at which the blocks of a file begin.

    >>> len(block_starts(0)), len(block_starts(BLOCK)), len(block_starts(BLOCK + 1))
    (0, 1, 2)
    """
    return range(0, size, BLOCK)


class Checksums:
    """The CRC-32 of each block of a file whose bytes are given in order.

    >>> found = Checksums()
    >>> for part in (b"12345", b"6789"):
    ...     found.add(part)
    >>> found.entry() == {"bytes": 9, "crc32": [0xCBF43926]}
    True
    """

    def __init__(self) -> None:
        """Begin with an empty file."""
        self._size = 0
        self._found: list[int] = []

    def add(self, content: bytes | memoryview) -> None:
        """Append bytes; zlib lets other threads run meanwhile, if there are many."""
        view = memoryview(content).cast("B")
        while view:
            room = BLOCK - self._size % BLOCK
            if room == BLOCK:
                self._found.append(0)
            self._found[-1] = zlib.crc32(view[:room], self._found[-1])
            self._size += min(room, len(view))
            view = view[room:]

    def entry(self) -> dict[str, Any]:
        """Return the manifest entry of the file: its size and its checksums."""
        return {"bytes": self._size, "crc32": list(self._found)}


class HashedFile(io.RawIOBase):
    """A new file that is written in order, and hashed by another thread meanwhile."""

    def __init__(self, path: Path) -> None:
        """Create the file, or truncate it."""
        super().__init__()
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._checksums = Checksums()

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file.fileno()

    def write(self, content: Any) -> int:
        """Write all of the bytes. They are not used after the return."""
        view = memoryview(content).cast("B")
        if len(view) < _LARGE:
            self._checksums.add(view)
            _write(self._file, view)
        else:
            hashed = Beside(partial(self._checksums.add, view))
            try:
                _write(self._file, view)
            finally:
                hashed.result()
        return len(view)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def entry(self) -> dict[str, Any]:
        """Return the manifest entry of what was written."""
        return self._checksums.entry()


def _write(file: BinaryIO, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]


def of_safetensors(path: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest entry of a safetensors file; only the header is read from the file.

    The library writes to a path only, so what it has written is hashed in memory.

    Args:
        path: the file.
        tensors: the tensors that were written: contiguous, on the CPU, and not changed since.
    """
    with path.open("rb") as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
    places = {name: one for name, one in json.loads(header).items() if name != "__metadata__"}
    found = Checksums()
    found.add(length + header)
    for name in sorted(places, key=lambda name: places[name]["data_offsets"]):
        found.add(_memory(tensors[name]))
    return found.entry()


def _memory(tensor: Any) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU."""
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")
