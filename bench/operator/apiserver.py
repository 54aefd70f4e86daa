"""The writes that the API server has accepted, from its metrics.

The metrics do not name the client. The writes of the scheduler and kwok to a pod (binding, status)
are the same for all ways, and are left out; so are writes to Leases and nodes, which do not depend
on jobs.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from bench.operator.client import Client

VERBS = {"POST", "PUT", "PATCH", "DELETE", "APPLY", "DELETECOLLECTION"}
JOBS = ("acceleratedjobs", "jobs", "pytorchjobs")
_OURS = {("", "pods"), ("", "services"), ("", "events")}  # (group, resource), in addition to JOBS
_ALIVE = {"leases", "nodes"}
_COUNT = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_BYTES = re.compile(r"^apiserver_request_body_size_bytes_sum\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Key = tuple[str, str, str, str]  # verb, group, resource, subresource


@dataclass(frozen=True, slots=True)
class Traffic:
    """Writes and the sizes of their bodies, since the API server started or between two reads.

    Attributes:
        writes: the number of writes.
        sizes: the bytes of the bodies; the keys have no subresource, which is included.
    """

    writes: Mapping[Key, int]
    sizes: Mapping[Key, float]

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse the metrics of the API server."""
        writes: Counter[Key] = Counter()
        for labels, value in _samples(_COUNT, text):
            if labels["verb"] in VERBS:
                writes[_key(labels)] += int(value)
        sizes = {_key(labels): value for labels, value in _samples(_BYTES, text)}
        return cls(writes, sizes)

    @classmethod
    async def now(cls, client: Client) -> Self:
        """Return the traffic until now."""
        return cls.read((await client.send("GET", "/metrics")).decode())

    def since(self, before: "Traffic") -> "Traffic":
        """Return the traffic since an earlier read."""
        writes = {key: n - before.writes.get(key, 0) for key, n in self.writes.items()}
        sizes = {key: n - before.sizes.get(key, 0) for key, n in self.sizes.items()}
        return Traffic(writes, sizes)

    def of_controllers(self) -> int:
        """Return the writes to jobs, pods, Services and events, without creations of jobs."""
        return sum(n for key, n in self.writes.items() if _is_a_controllers(key))

    def of_kind(self, *, verb: str, resource: str) -> int:
        """Return the writes to one resource by one verb, without subresources."""
        return sum(
            n for (v, _, r, s), n in self.writes.items() if (v, r, s) == (verb, resource, "")
        )

    def body_bytes(self) -> float:
        """Return the bytes in the bodies of these writes and of the scheduler's bindings."""
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
        """Return all writes except those to Leases and nodes."""
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
    r"""Return a quantile of a histogram, interpolated as in Prometheus; None if it is missing.

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
