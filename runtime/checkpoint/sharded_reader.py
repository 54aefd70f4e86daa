"""Reads directories of torch.distributed.checkpoint without executing code from them.

torch itself unpickles `.metadata` and all values that are not tensors. Here `sharded_metadata`
reads `.metadata`, and `trust.load` reads the values, which must be plain ones: numbers, strings
and containers of these. A checkpoint with other objects is refused.
"""

import contextlib
import io
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from runtime.checkpoint.sharded_metadata import read_metadata
from runtime.checkpoint.trust.archive import check
from runtime.checkpoint.trust.load import load_untrusted, reason


class Reader(FileSystemReader):
    """Reads a directory and checks each part before torch reads it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002  # torch's
        """Return the metadata of the directory.

        Raises:
            ValueError: the metadata is missing, damaged, or refers to bytes that the files of the
                directory do not have.
        """
        metadata = read_metadata(Path(self.path))
        metadata.storage_meta.load_id = self.load_id  # type: ignore[union-attr]  # it is never None
        return metadata

    def _slice_file(self, file: Any, sinfo: Any) -> Any:
        """Return the part of a file that holds one tensor or object, after checking it.

        Overrides torch's method, through which it reads all data.

        Raises:
            UnpicklingError: the part is not a file of torch.save, or unpickling it would need far
                more memory than its size.
        """
        check(cast("BinaryIO", _Slice(file, sinfo.offset, sinfo.length)))
        return super()._slice_file(file, sinfo)


class _Slice(io.RawIOBase):
    """A part of a file as a file object; torch's own cannot seek from the end."""

    def __init__(self, file: Any, start: int, length: int) -> None:
        super().__init__()
        self._file, self._start, self._length = file, start, length
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell()) - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._length}[whence]
        self._file.seek(self._start + origin + offset)
        return self.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(min(len(buffer), max(self._length - self.tell(), 0)))
        buffer[: len(content)] = content
        return len(content)


class _Planner(DefaultLoadPlanner):
    """Loads values that are not tensors only if they are plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        own = io.BytesIO()  # torch unpickles anything, so it gets a copy of the checked value
        try:
            torch.save(load_untrusted(value), own)
        except pickle.UnpicklingError as error:
            name = read_item.dest_index.fqn
            sentence = f"{name} must be a plain value: {reason(error.__cause__ or error)}"
            raise pickle.UnpicklingError(sentence) from error
        own.seek(0)
        super().load_bytes(read_item, own)


def read(folder: Path, state: dict[str, Any]) -> None:
    """Load a directory into a state dict, in place. All ranks must call this.

    Args:
        folder: the directory.
        state: the state dict to fill, with the keys that were saved. Its tensors may be sharded in
            another way.

    Raises:
        ValueError: the directory is not a valid checkpoint, or has values that are neither tensors
            nor plain values.
    """
    _read(Reader(folder), state, alone=not distributed.is_initialized())


def names(folder: Path) -> set[str]:
    """Return the names of all tensors and values in a directory.

    Raises:
        ValueError: the metadata of the directory is missing, damaged or forged.
    """
    return set(Reader(folder).read_metadata().state_dict_metadata)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a directory, unsharded, on this process only.

    Raises:
        ValueError: the directory is not a valid checkpoint.
    """
    reader = Reader(folder)
    known = reader.read_metadata().state_dict_metadata
    whole: dict[str, Any] = {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in known.items()
        if isinstance(one, TensorStorageMetadata)
    }
    _read(reader, whole, alone=True)
    return whole


def _read(reader: Reader, state: dict[str, Any], *, alone: bool) -> None:
    try:
        with said_alone():
            if alone:  # torch's `load` does the same, but only since torch 2.9
                _load_state_dict(state, reader, no_dist=True, planner=_Planner())
            else:
                dcp_load(state, storage_reader=reader, planner=_Planner())
    except CheckpointException as error:  # a BaseException, which torch raises on all ranks
        reader.read_metadata()  # raises the error in the metadata, which torch 2.9 hides
        rank, (reason, _) = next(iter(error.failures.items()))
        sentence = f"{reader.path} cannot be loaded: rank {rank} failed with {reason!r}"
        raise ValueError(sentence) from error


@contextlib.contextmanager
def said_alone() -> Iterator[None]:
    """Suppress torch's warning about running without a process group, inside the context."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield
