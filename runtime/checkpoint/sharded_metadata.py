"""Reads what a directory of torch.distributed.checkpoint says of itself, and believes none of it.

`.metadata` is a pickle. It is scanned before it is unpickled, only the classes that it consists of
are made, and then it must speak of files of its own directory, of no more bytes than these have.
"""

import io
import math
import pickle
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)

from runtime.checkpoint.trust.opcodes import scan

T = TypeVar("T")
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
_REFUSED = (  # whatever a pickle that is none, or of other values, can raise
    *(pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError),
    *(ImportError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)


class _Unpickler(pickle.Unpickler):
    """Makes objects of the classes above only, and dtypes."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _TAKEN.get(module, ()):
            sentence = f"a checkpoint's {METADATA} has no business with {module}.{name}"
            raise pickle.UnpicklingError(sentence)
        return super().find_class(module, name)


def read_metadata(folder: Path) -> Metadata:
    """What a directory says of itself.

    Raises:
        ValueError: it is no checkpoint, or speaks of more than what is in the directory.
    """
    path = folder / METADATA
    try:
        metadata = _unpickled(path.read_bytes())
        _check(metadata, folder)
        metadata.storage_meta = _known(metadata.storage_meta or StorageMeta(), StorageMeta)
    except (OSError, *_REFUSED) as error:
        sentence = (
            f"{path} must be what torch.distributed.checkpoint writes, of files beside it: "
            f"{str(error) or type(error).__name__}; load another checkpoint, or write it again"
        )
        raise ValueError(sentence) from error
    return metadata


def _unpickled(content: bytes) -> Metadata:
    scan(io.BytesIO(content), len(content))
    return _known(_Unpickler(io.BytesIO(content)).load(), Metadata)


def _known(one: Any, kind: type[T]) -> T:
    """The object, which is of that class.

    Raises:
        ValueError: it is of another one.
    """
    if type(one) is not kind:
        sentence = f"a {kind.__name__} was expected, and it has {one!r:.80}"
        raise ValueError(sentence)
    return one


def _check(metadata: Metadata, folder: Path) -> None:
    """Whether all that it names is in the directory.

    Raises:
        ValueError: a name, a place or a size that is not.
    """
    sizes: dict[str, int] = {}  # of files
    left: dict[str, int] = {}  # bytes of them that nothing is said to be in
    for index, info in metadata.storage_data.items():
        name = _known(_known(info, _StorageInfo).relative_path, str)
        if name not in sizes:
            sizes[name] = left[name] = _size(folder, name)
        _known(_known(index, MetadataIndex).fqn, str)
        _check_place(info, sizes[name])
        left[name] -= info.length
    if crowded := [name for name, bytes_ in left.items() if bytes_ < 0]:
        sentence = (
            f"it says that {crowded[0]} has more in it than the file's {sizes[crowded[0]]} bytes"
        )
        raise ValueError(sentence)
    for name, one in metadata.state_dict_metadata.items():
        if type(one) is not BytesStorageMetadata:
            _check_tensor(_known(name, str), _known(one, TensorStorageMetadata), metadata)


def _size(folder: Path, name: str) -> int:
    """Bytes of a file beside `.metadata`.

    Raises:
        ValueError: it is somewhere else.
    """
    if PurePath(name).name != name or name in {"", ".", ".."} or "\0" in name:
        sentence = f"it names the file {name!r}, which is not one beside it"
        raise ValueError(sentence)
    if (folder / name).is_symlink() or not (folder / name).is_file():
        sentence = f"it names the file {name!r}, which is not there, or only a link to another"
        raise ValueError(sentence)
    return (folder / name).stat().st_size


def _check_place(info: _StorageInfo, size: int) -> None:
    start, length = _known(info.offset, int), _known(info.length, int)
    if start < 0 or length < 0 or start + length > size or info.transform_descriptors:
        sentence = (
            f"it names bytes {start} to {start + length} of {info.relative_path}, which has "
            f"{size}, to be read by {info.transform_descriptors or 'nothing else'}"
        )
        raise ValueError(sentence)


def _check_tensor(name: str, one: TensorStorageMetadata, metadata: Metadata) -> None:
    """Whether a tensor is as large as its parts, and these have their bytes."""
    width, whole = one.properties.dtype.itemsize, _numbers(one.size)
    parts = 0
    for chunk in one.chunks:
        _known(chunk, ChunkStorageMetadata)
        info = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
        numbers = _numbers(chunk.sizes)
        parts += numbers
        if numbers * width > info.length:
            sentence = f"{name} has a part of {numbers * width} bytes, and {info.length} to read"
            raise ValueError(sentence)
    if whole > parts:
        sentence = f"{name} has {whole} numbers, and {parts} in its parts"
        raise ValueError(sentence)


def _numbers(size: Any) -> int:
    """How many a shape has room for."""
    if min(_known(size, torch.Size), default=0) < 0:
        sentence = f"a tensor has the shape {size}"
        raise ValueError(sentence)
    return math.prod(size)
