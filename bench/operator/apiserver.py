"""What the API server has taken, by its own metrics.

They do not say who has asked. What the scheduler and kwok do to a pod (binding, status) is the same
for all ways and is left out; so are Leases and nodes, which live whether or not there are jobs.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from bench.operator.client import Client

VERBS = {"POST", "PUT", "PATCH", "DELETE", "APPLY", "DELETECOLLECTION"}
JOBS = ("acceleratedjobs", "jobs", "pytorchjobs")
_OURS = {("", "pods"), ("", "services"), ("", "events")}  # (group, resource), besides JOBS
_ALIVE = {"leases", "nodes"}
_COUNT = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_BYTES = re.compile(r"^apiserver_request_body_size_bytes_sum\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Key = tuple[str, str, str, str]  # verb, group, resource, subresource


@dataclass(frozen=True, slots=True)
class Traffic:
    """Writes and their bodies' bytes, since the API server began or between two looks."""

    writes: Mapping[Key, int]
    sizes: Mapping[Key, float]  # by verb, group, resource; their subresources are in one

    @classmethod
    def read(cls, text: str) -> Self:
        """What the API server's metrics say."""
        writes: Counter[Key] = Counter()
        for labels, value in _samples(_COUNT, text):
            if labels["verb"] in VERBS:
                writes[_key(labels)] += int(value)
        sizes = {_key(labels): value for labels, value in _samples(_BYTES, text)}
        return cls(writes, sizes)

    @classmethod
    async def now(cls, client: Client) -> Self:
        """What it has taken until now."""
        return cls.read((await client.send("GET", "/metrics")).decode())

    def since(self, before: "Traffic") -> "Traffic":
        """What came between an earlier look and this one."""
        writes = {key: n - before.writes.get(key, 0) for key, n in self.writes.items()}
        sizes = {key: n - before.sizes.get(key, 0) for key, n in self.sizes.items()}
        return Traffic(writes, sizes)

    def of_controllers(self) -> int:
        """Writes to jobs, pods, Services and events, without the jobs' creation by their author."""
        return sum(n for key, n in self.writes.items() if _is_a_controllers(key))

    def of_kind(self, *, verb: str, resource: str) -> int:
        """Writes to one resource, by one verb, its subresources left out."""
        return sum(
            n for (v, _, r, s), n in self.writes.items() if (v, r, s) == (verb, resource, "")
        )

    def body_bytes(self) -> float:
        """Bytes in the bodies of the same writes, and of the scheduler's bindings of the pods."""
        verbs = {"create", "update", "delete", "patch"}
        return sum(
            n
            for (verb, group, resource, _), n in self.sizes.items()
            if verb in verbs
            and ((group, resource) in _OURS or resource in JOBS)
            and (verb, resource) != ("patch", "pods")
            and not (verb == "create" and resource in JOBS)
        )

    def at_all(self) -> int:
        """All writes but those that say that a node or a controller lives."""
        return sum(n for (_, _, resource, _), n in self.writes.items() if resource not in _ALIVE)


def _samples(pattern: re.Pattern[str], text: str) -> list[tuple[dict[str, str], float]]:
    return [(dict(_LABEL.findall(labels)), float(value)) for labels, value in pattern.findall(text)]


def _key(labels: Mapping[str, str]) -> Key:
    verb, group, resource = (labels.get(name, "") for name in ("verb", "group", "resource"))
    return verb, group, resource, labels.get("subresource", "")


def _is_a_controllers(key: Key) -> bool:
    verb, group, resource, subresource = key
    if resource in JOBS:
        return not (verb == "POST" and subresource == "")
    return (group, resource) in _OURS and subresource == ""


def quantile(text: str, name: str, share: float) -> float | None:
    r"""A quantile of a histogram, between its bounds as Prometheus does; None if it is not there.

    >>> text = 'a_bucket{le="1.0"} 90.0\na_bucket{le="2.0"} 100.0\na_bucket{le="+Inf"} 100.0'
    >>> quantile(text, "a", 0.95), quantile(text, "b", 0.95)
    (1.5, None)
    """
    found = re.findall(rf'^{name}_bucket{{le="(\S+)"}} (\S+)$', text, re.MULTILINE)
    bounds = [(float(bound), float(count)) for bound, count in found]
    if not bounds or not bounds[-1][1]:
        return None
    rank = share * bounds[-1][1]
    low, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= rank:
            return (
                low
                if bound == float("inf")
                else low + (bound - low) * (rank - below) / (count - below)
            )
        low, below = bound, count
    return low
