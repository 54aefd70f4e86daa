"""Reading what torch.distributed.checkpoint has written, without executing what it says.

torch unpickles `.metadata` and whatever is no tensor. Here `fsdp_metadata` reads the first, and of
the second only numbers, texts and containers of them are taken: with anything else in it, a
checkpoint is refused.
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
    """Reads a directory."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002  # torch's
        """What the directory says of itself.

        Raises:
            ValueError: it is no checkpoint, or speaks of more than what is in the directory.
        """
        metadata = read_metadata(Path(self.path))
        metadata.storage_meta.load_id = self.load_id  # type: ignore[union-attr]  # it has one
        return metadata

    def _slice_file(self, file: Any, sinfo: Any) -> Any:
        """Torch's way to a tensor or an object in a file: here it is checked first.

        Raises:
            UnpicklingError: it takes more memory than its bytes, or is no tensor, nor plain values.
        """
        check(cast("BinaryIO", _Slice(file, sinfo.offset, sinfo.length)))
        return super()._slice_file(file, sinfo)


class _Slice(io.RawIOBase):
    """A part of a file, as a file of its own; torch's cannot seek from its end."""

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
    """Takes what is no tensor only if it is harmless."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        own = io.BytesIO()  # torch's load_bytes takes anything, so it gets what was written here
        try:
            torch.save(load_untrusted(value), own)
        except pickle.UnpicklingError as error:
            name = read_item.dest_index.fqn
            sentence = f"{name} must be a plain value: {reason(error.__cause__ or error)}"
            raise pickle.UnpicklingError(sentence) from error
        own.seek(0)
        super().load_bytes(read_item, own)


def read(folder: Path, state: dict[str, Any]) -> None:
    """Fill a state's tensors, and replace its other values, in place; to be called by all ranks.

    Args:
        folder: the directory.
        state: with the form of what was written, sharded in any way.

    Raises:
        ValueError: it is no checkpoint, or there is more in it than tensors and plain values.
    """
    _read(Reader(folder), state, alone=not distributed.is_initialized())


def names(folder: Path) -> set[str]:
    """The names of all that a directory has."""
    return set(Reader(folder).read_metadata().state_dict_metadata)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a directory, whole, on this process alone."""
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
            if alone:  # what `load` itself calls then, but only from torch 2.9 on
                _load_state_dict(state, reader, no_dist=True, planner=_Planner())
            else:
                dcp_load(state, storage_reader=reader, planner=_Planner())
    except CheckpointException as error:  # no Exception in torch; all ranks have it
        reader.read_metadata()  # raises again what torch 2.9 hides
        rank, (reason, _) = next(iter(error.failures.items()))
        sentence = f"{reader.path} cannot be loaded: rank {rank} says {reason!r}"
        raise ValueError(sentence) from error


@contextlib.contextmanager
def said_alone() -> Iterator[None]:
    """Within, torch does not warn that there is one process only, as it was told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield
