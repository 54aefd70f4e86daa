"""Reading what torch.distributed.checkpoint has written, without executing what it says.

torch unpickles `.metadata` and whatever is no tensor. Here only the classes that such a checkpoint
consists of are taken, and only numbers, texts and containers of them beside tensors: with anything
else in it, a checkpoint is refused.
"""

import contextlib
import io
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

METADATA = ".metadata"  # torch's name for what a directory says of itself
_TAKEN = {
    "builtins": {"set", "frozenset"},
    "collections": {"OrderedDict"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePosixPath"},
    "torch": {"Size"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.serialization": {"_get_layout"},
}


class _Unpickler(pickle.Unpickler):
    """Makes objects of the classes above only, and dtypes."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _TAKEN.get(module, ()):
            sentence = f"a checkpoint's {METADATA} has no business with {module}.{name}"
            raise pickle.UnpicklingError(sentence)
        return super().find_class(module, name)


class Reader(FileSystemReader):
    """Reads a directory."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002  # torch's
        """What the directory says of itself.

        Raises:
            ValueError: it is no checkpoint, or more than one.
        """
        path = Path(self.path, METADATA)
        try:
            with path.open("rb") as file:
                metadata: Metadata = _Unpickler(file).load()
        except (FileNotFoundError, pickle.UnpicklingError) as error:
            sentence = f"{path} is not what torch.distributed.checkpoint writes: {error}"
            raise ValueError(sentence) from error
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _Planner(DefaultLoadPlanner):
    """Takes what is no tensor only if it is harmless."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)  # torch's own load_bytes takes anything
        value.seek(0)
        super().load_bytes(read_item, value)


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
