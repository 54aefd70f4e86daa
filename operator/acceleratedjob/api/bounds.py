"""How deep and how large a job may be, so that work on any job takes a bounded time.

The API server takes JSON of 10,000 levels, and as many values as fit into etcd's 1.5 MiB. Python
reads about 1,000 levels, and needs seconds to copy that many values. See
docs/decisions/0012-bounds-of-a-job.md.
"""

from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64  # mappings and lists inside of each other; a pod's own fields have about 12
MAX_VALUES = 50_000  # strings, numbers, mappings, lists; a usual job has about 100
UNREADABLE = "unreadable"  # a key in the place of a job's spec: what must hold of it

# Of a job's metadata; the rest, with who manages which field, may be larger than the job.
METADATA = (
    *("name", "namespace", "uid", "generation"),
    *("resourceVersion", "creationTimestamp", "deletionTimestamp"),
)


def excess(value: Any) -> str | None:
    """What a value is beyond the bounds, in a sentence; None if it is within them.

    The time is bounded too, whatever the value: also one that contains itself, as YAML may have.

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
    """The values directly inside of others, but no more than are asked for."""
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
    """A job as it came, or, if its spec is beyond the bounds, the job with a sentence instead."""
    if not isinstance(job, dict) or "metadata" not in job:  # a list may be of anything
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
