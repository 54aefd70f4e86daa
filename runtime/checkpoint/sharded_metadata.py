"""Reads the `.metadata` of torch.distributed.checkpoint without trusting it.

The file is a pickle. Its opcodes are scanned before it is unpickled, and unpickling creates only
objects of the classes that torch writes there. Then its entries must refer to files in the same
directory, and to no more bytes than these have.
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
METADATA = ".metadata"  # torch's name of the file
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
_REFUSED = (  # exceptions that a damaged or forged pickle can raise
    *(pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError),
    *(ImportError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)


class _Unpickler(pickle.Unpickler):
    """Creates only dtypes and objects of the classes in `_TAKEN`."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _TAKEN.get(module, ()):
            sentence = f"the {METADATA} of a checkpoint must not refer to {module}.{name}"
            raise pickle.UnpicklingError(sentence)
        return super().find_class(module, name)


def read_metadata(folder: Path) -> Metadata:
    """Return the metadata of a directory of torch.distributed.checkpoint.

    Raises:
        ValueError: the metadata is missing, damaged, or refers to bytes that the files of the
            directory do not have.
    """
    path = folder / METADATA
    try:
        metadata = _unpickled(path.read_bytes())
        _check(metadata, folder)
        metadata.storage_meta = _known(metadata.storage_meta or StorageMeta(), StorageMeta)
    except (OSError, *_REFUSED) as error:
        sentence = (
            f"{path} must be metadata that torch.distributed.checkpoint has written for the files "
            f"in its directory: {str(error) or type(error).__name__}; load another checkpoint"
        )
        raise ValueError(sentence) from error
    return metadata


def _unpickled(content: bytes) -> Metadata:
    scan(io.BytesIO(content), len(content))
    return _known(_Unpickler(io.BytesIO(content)).load(), Metadata)


def _known(one: Any, kind: type[T]) -> T:
    """Return an object after checking its class.

    Raises:
        ValueError: the object is of another class.
    """
    if type(one) is not kind:
        sentence = f"expected a {kind.__name__}, got {one!r:.80}"
        raise ValueError(sentence)
    return one


def _check(metadata: Metadata, folder: Path) -> None:
    """Check that the metadata refers only to bytes that the files of the directory have.

    Raises:
        ValueError: a file name, a byte range or a tensor's size is wrong.
    """
    sizes: dict[str, int] = {}  # file -> its bytes
    left: dict[str, int] = {}  # file -> its bytes that no entry has used so far
    for index, info in metadata.storage_data.items():
        name = _known(_known(info, _StorageInfo).relative_path, str)
        if name not in sizes:
            sizes[name] = left[name] = _size(folder, name)
        _known(_known(index, MetadataIndex).fqn, str)
        _check_place(info, sizes[name])
        left[name] -= info.length
    if crowded := [name for name, bytes_ in left.items() if bytes_ < 0]:
        sentence = (
            f"its entries for {crowded[0]} use more than the file's {sizes[crowded[0]]} bytes"
        )
        raise ValueError(sentence)
    for name, one in metadata.state_dict_metadata.items():
        if type(one) is not BytesStorageMetadata:
            _check_tensor(_known(name, str), _known(one, TensorStorageMetadata), metadata)


def _size(folder: Path, name: str) -> int:
    """Return the size of a file in the directory of `.metadata`, in bytes.

    Raises:
        ValueError: the name is not that of a file in this directory.
    """
    if PurePath(name).name != name or name in {"", ".", ".."} or "\0" in name:
        sentence = f"it refers to {name!r}, which is not the name of a file in its directory"
        raise ValueError(sentence)
    if (folder / name).is_symlink() or not (folder / name).is_file():
        sentence = f"it refers to the file {name!r}, which is missing or a symbolic link"
        raise ValueError(sentence)
    return (folder / name).stat().st_size


def _check_place(info: _StorageInfo, size: int) -> None:
    start, length = _known(info.offset, int), _known(info.length, int)
    if start < 0 or length < 0 or start + length > size or info.transform_descriptors:
        sentence = (
            f"its entry for bytes {start} to {start + length} of {info.relative_path} must be "
            f"within the file's {size} bytes and have no transforms, got "
            f"{info.transform_descriptors or 'no transforms'}"
        )
        raise ValueError(sentence)


def _check_tensor(name: str, one: TensorStorageMetadata, metadata: Metadata) -> None:
    """Check that the chunks of a tensor have all its elements, and the bytes for them.

    Raises:
        ValueError: elements or bytes are missing.
    """
    width, whole = one.properties.dtype.itemsize, _numbers(one.size)
    parts = 0
    for chunk in one.chunks:
        _known(chunk, ChunkStorageMetadata)
        info = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
        numbers = _numbers(chunk.sizes)
        parts += numbers
        if numbers * width > info.length:
            sentence = f"{name} has a chunk of {numbers * width} bytes, but stores {info.length}"
            raise ValueError(sentence)
    if whole > parts:
        sentence = f"{name} has {whole} elements, but its chunks have {parts}"
        raise ValueError(sentence)


def _numbers(size: Any) -> int:
    """Return the number of elements of a tensor with some shape.

    Raises:
        ValueError: the shape is not a torch.Size of sizes >= 0.
    """
    if min(_known(size, torch.Size), default=0) < 0:
        sentence = f"the shape of a tensor must not have negative sizes, got {size}"
        raise ValueError(sentence)
    return math.prod(size)
