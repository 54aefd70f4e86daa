"""Limits for the depth and the size of a job, so that work on any job takes a bounded time.

The API server accepts JSON of 10,000 levels, and as many values as fit into etcd's 1.5 MiB. Python
decodes about 1,000 levels, and takes seconds to copy that many values. See
docs/decisions/0012-bounds-of-a-job.md.
"""

from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64  # nested mappings and lists; the fields of a pod have about 12 levels
MAX_VALUES = 50_000  # strings, numbers, mappings and lists; a typical job has about 100
UNREADABLE = "unreadable"  # the key of the error message that replaces the spec of a job

# The metadata that is kept; the rest, with managedFields, may be larger than the job.
METADATA = (
    *("name", "namespace", "uid", "generation"),
    *("resourceVersion", "creationTimestamp", "deletionTimestamp"),
)


def excess(value: Any) -> str | None:
    """Return a message about the limit that a value exceeds; None if it exceeds none.

    It takes a bounded time for any value, including a value that contains itself, as YAML allows.

    >>> excess({"a": [1, 2]}), excess([0] * 60_000)
    (None, 'must have at most 50000 values, and has more')
    """
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        level = list(_inner(level, MAX_VALUES + 1 - count))
        count += len(level)
        if count > MAX_VALUES:
            return f"must have at most {MAX_VALUES} values, and has more"
        if not level:
            return None
    return f"must be nested at most {MAX_DEPTH} levels deep, and is nested deeper"


def _inner(values: list[Any], at_most: int) -> Iterator[Any]:
    """Yield the values directly inside other values, up to a number."""
    for value in values:
        if isinstance(value, dict):
            inner: Any = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        else:
            continue
        for each in inner:
            if at_most <= 0:
                return
            at_most -= 1
            yield each


def bounded(job: Any) -> Any:
    """Return a job; if its spec exceeds a limit, a message replaces the spec."""
    if not isinstance(job, dict) or "metadata" not in job:  # an item of a list may be anything
        return job
    status = job.get("status")
    if excess(status) is not None:
        job = {name: value for name, value in job.items() if name != "status"}
    sentence = excess(job.get("spec"))
    if sentence is None:
        return job
    metadata = {name: job["metadata"][name] for name in METADATA if name in job["metadata"]}
    kept = {name: value for name, value in job.items() if name != "spec"}
    return kept | {"metadata": metadata, UNREADABLE: sentence}
