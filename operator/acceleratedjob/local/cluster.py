"""Implements `cluster.Cluster` in memory, with the rules of an API server.

`acceleratedjob run` uses it, and tests use it in place of a real cluster: both pass
tests/cluster/test_clusters.py. The work of a node is in `local.kubelet`.
"""

import asyncio
import copy
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.times import format_time, utc_now
from acceleratedjob.cluster import Change, Changed, Gone, Listed, Ref, Rendered
from acceleratedjob.errors import AlreadyExists, Conflict, NotFound

DEFAULT_GRACE_SECONDS = 30  # Kubernetes' default
_NOTHING: Manifest = {"metadata": {"uid": None}}


class LocalCluster:
    """The objects of a cluster in memory."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        """Create an empty cluster; `now` is its clock."""
        self._now = now
        self._objects: dict[Ref, Manifest] = {}
        self.version = 0  # the resource version of the newest change
        self._watchers: defaultdict[str, list[asyncio.Queue[Change]]] = defaultdict(list)

    async def create(self, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        ref = Ref.of(manifest)
        if ref in self._objects:
            sentence = f"{ref.kind} {ref.namespace}/{ref.name} already exists"
            raise AlreadyExists(sentence)
        made = copy.deepcopy(manifest)
        made["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": format_time(self._now()),
        }
        if ref.kind == "Pod":
            made["status"] = {"phase": "Pending"}
        return self._store(ref, made)

    async def create_pod(self, pod: Rendered) -> Manifest:
        """See `Cluster.create_pod`."""
        return await self.create(json.loads(pod.body))

    async def read(self, ref: Ref) -> Manifest:
        """See `Cluster.read`."""
        return copy.deepcopy(self._find(ref))

    async def delete(
        self, ref: Ref, *, uid: str, grace_seconds: int | None = None
    ) -> Manifest | None:
        """See `Cluster.delete`; a pod without a node is deleted immediately."""
        found = self._find(ref, uid)
        if ref.kind != "Pod" or "nodeName" not in found["spec"]:
            self.remove(ref, uid=uid)
            return None
        stopping = copy.deepcopy(found)
        grace = grace_period(found) if grace_seconds is None else grace_seconds
        deadline = format_time(self._now() + timedelta(seconds=grace))
        metadata = stopping["metadata"]
        if deadline < metadata.get("deletionTimestamp", "9"):  # a second request can only shorten
            metadata["deletionTimestamp"] = deadline
            metadata["deletionGracePeriodSeconds"] = grace
        return self._store(ref, stopping)

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        """See `Cluster.write_status`."""
        found = self._find(ref, uid)
        if found["metadata"]["resourceVersion"] != resource_version:
            sentence = f"{ref.kind} {ref.namespace}/{ref.name} has changed"
            raise Conflict(sentence)
        return self._store(ref, {**copy.deepcopy(found), "status": copy.deepcopy(status)})

    async def watch(self, kind: str) -> AsyncIterator[Change]:
        """See `Cluster.watch`; AcceleratedJobs can be watched as well."""
        changes: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers[kind].append(changes)
        try:
            yield self.snapshot(kind)
            while True:
                yield await changes.get()
        finally:
            self._watchers[kind].remove(changes)

    def snapshot(self, kind: str) -> Listed:
        """Return a list, as of a watch, of all objects of a kind at the current version."""
        return Listed(tuple(map(copy.deepcopy, self.objects(kind))), version=self.version)

    def objects(self, kind: str) -> list[Manifest]:
        """Return all objects of a kind that a watch would list; they must not be modified."""
        return [
            entry for ref, entry in self._objects.items() if ref.kind == kind and _is_listed(entry)
        ]

    def change(self, ref: Ref, alter: Callable[[Manifest], None]) -> Manifest:
        """Modify an object in place, as its author or a node would.

        Raises:
            NotFound: the object does not exist.
        """
        changed = copy.deepcopy(self._find(ref))
        spec = copy.deepcopy(changed.get("spec"))
        alter(changed)
        if changed.get("spec") != spec:
            changed["metadata"]["generation"] += 1
        return self._store(ref, changed)

    def remove(self, ref: Ref, *, uid: str) -> None:
        """Remove an object, as a node does when the containers of a pod have stopped.

        Do nothing if the object does not exist.
        """
        if self._objects.get(ref, _NOTHING)["metadata"]["uid"] != uid:
            return
        gone = self._objects.pop(ref)
        gone["metadata"]["resourceVersion"] = self._next_version()
        self._tell(Gone(gone))

    def _find(self, ref: Ref, uid: str | None = None) -> Manifest:
        found = self._objects.get(ref)
        if found is None or uid not in (None, found["metadata"]["uid"]):
            sentence = f"{ref.kind} {ref.namespace}/{ref.name} not found"
            raise NotFound(sentence)
        return found

    def _store(self, ref: Ref, manifest: Manifest) -> Manifest:
        manifest["metadata"]["resourceVersion"] = self._next_version()
        self._objects[ref] = manifest
        self._tell(Changed(copy.deepcopy(manifest)))
        return copy.deepcopy(manifest)

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def _tell(self, change: Changed | Gone) -> None:
        if _is_listed(change.object):
            for watcher in self._watchers[change.object["kind"]]:
                watcher.put_nowait(change)


def _is_listed(manifest: View) -> bool:
    """Whether a watch includes an object; pods, Services and policies need the job-name label."""
    labels = manifest["metadata"].get("labels") or {}
    return (
        manifest["kind"] not in ("Pod", "Service", "NetworkPolicy")
        or names.JOB_NAME_LABEL in labels
    )


def grace_period(pod: View) -> int:
    """Return the grace period of a pod: the seconds between SIGTERM and SIGKILL."""
    given = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_SECONDS if given is None else int(given)
