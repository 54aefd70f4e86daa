"""Opens the place that a path or a URL names."""

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.checkpoint.stores.bucket import Bucket
from runtime.checkpoint.stores.protocol import Storage
from runtime.checkpoint.stores.retries import Retries
from runtime.checkpoint.stores.store import Store
from runtime.checkpoint.stores.volume import Volume
from runtime.errors import CheckpointError

_LOCAL = "file://"
_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/(?!/)")  # Path("s3://bucket") is s3:/bucket


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an object store; a `file://` URL is a directory.

    >>> is_url("s3://bucket/job"), is_url("file:///data"), is_url("/data")
    (True, False, False)
    """
    text = os.fspath(place)
    return "://" in text and not text.startswith(_LOCAL)


def open_store(
    place: str | os.PathLike[str],
    *,
    keep: int | None = None,
    staging: Path | None = None,
    options: Mapping[str, Any] | None = None,
    retries: Retries | None = None,
) -> Store:
    """Open the checkpoints of a directory or of an object store.

    Opening reads and writes nothing.

    Args:
        place: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.
        keep: the number of checkpoints to keep; None to keep all.
        staging: for an object store, a local directory for a checkpoint until it is uploaded, on a
            file system with room for one; by default a directory for temporary files.
        options: options of the fsspec file system, such as `endpoint_url`. Credentials come from
            the environment, as each file system documents.
        retries: for an object store, how often operations are tried.

    Raises:
        CheckpointError: the package for the object store is missing, or the URL is invalid, such as
            `s3:/bucket`, which would be a directory.
        ValueError: `keep` is less than 1.
    """
    if _ONE_SLASH.match(text := os.fspath(place)):
        sentence = (
            f"{text} must have two slashes behind the colon if it is a URL, and begin with ./ if "
            "it is a directory"
        )
        raise CheckpointError(sentence)
    if not is_url(place):
        root = Path(os.fspath(place).removeprefix(_LOCAL)).expanduser().absolute()
        return Store(Volume(root), keep)
    return Store(_bucket(os.fspath(place), staging, options or {}, retries), keep)


def _bucket(
    url: str, staging: Path | None, options: Mapping[str, Any], retries: Retries | None
) -> Storage:
    try:
        core = importlib.import_module("fsspec.core")
        fs, root = core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        sentence = (
            f"{url} cannot be opened: {error}; install acceleratedjob[objectstore] and the fsspec "
            f"package for {scheme}://, such as s3fs, gcsfs or adlfs"
        )
        raise CheckpointError(sentence) from error
    return Bucket(fs, root, name=url, staging=staging, retries=retries)
