"""The facts about a pod that the planner needs.

The manifest of a pod is large, and has many writers. A `Pod` is a small frozen summary of it, cheap
enough to be kept for every pod of a large cluster. How a replica ended (`endings`) depends on its
training container only, not on other containers that terminate early or keep running.
"""

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.observe.containers import has_ended, has_stopped, is_up, runs, trainer_status
from acceleratedjob.observe.endings import Ending, read_ending
from acceleratedjob.observe.pending import Waiting, read_waiting

_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a job, as last observed.

    Attributes:
        name: the name of the pod.
        uid: the uid of the pod.
        attempt: the number of its attempt.
        index: the index of its replica.
        node: the node; None if the pod is not scheduled.
        ready: whether the training container and the native sidecars are ready.
        running: whether the training container runs, ready or not.
        ending: how the training container ended; None if it has not.
        stopped: whether no container runs any more.
        over: whether the pod terminates by itself: at most native sidecars still run.
        waiting: why the pod does not run.
        disrupted: why the cluster stops the pod: preemption, drain, node loss.
        disrupted_at: since when the cluster stops the pod; the epoch if that is unknown.
        reason: the reason of the pod, not of a container: Evicted, NodeLost, ...
        grace_seconds: the grace period in its spec; None if it is not known.
        delete_by: the end of the grace period, if the pod is being deleted.
        deleted_at: when the deletion was requested.
        conditions: the types of the conditions that are True.
        address: the IP address of replica 0, whose pod tells the progress; None for the others.
    """

    name: str
    uid: str
    attempt: int
    index: int
    node: str | None = None
    ready: bool = False
    running: bool = False
    ending: Ending | None = None
    stopped: bool = False
    over: bool = False
    waiting: Waiting | None = None
    disrupted: str | None = None
    disrupted_at: datetime = names.EPOCH
    reason: str | None = None
    grace_seconds: int | None = None
    delete_by: datetime | None = None
    deleted_at: datetime | None = None
    conditions: frozenset[str] = frozenset()
    address: str | None = None

    @property
    def asked_to_stop(self) -> bool:
        """Whether the pod was asked to stop, before its training ended if it has ended.

        If both happened in the same second, the request counts as earlier. For a pod that was
        stopped for a reason of the pod, such as its deadline, no time of a request is recorded.
        """
        disrupted_at = None if self.disrupted is None else self.disrupted_at
        requests = [at for at in (self.deleted_at, disrupted_at) if at is not None]
        if self.ending is None:
            return bool(requests)
        return min(requests) <= self.ending.time if requests else self.ending.is_pods

    @property
    def succeeded(self) -> bool:
        """Whether the replica has succeeded: it exited with 0, without being asked to stop."""
        return self.ending is not None and self.ending.exit_code == 0 and not self.asked_to_stop

    @property
    def grace(self) -> timedelta | None:
        """The grace period of its deletion, if it is being deleted."""
        if self.delete_by is None or self.deleted_at is None:
            return None
        return self.delete_by - self.deleted_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """The Service or the NetworkPolicy of a job, as last observed.

    Attributes:
        as_made: whether no other client has changed it, see `manifests.network.is_as_made`.
        ports: the ports in its spec.
        made: when it was created.
        repairs: how many times it was re-created.
    """

    as_made: bool
    ports: frozenset[object]
    made: datetime
    repairs: int = 0


def read_pod(manifest: View) -> Pod | None:
    """Summarize a pod; None if its name is not that of a pod of a job."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    place = names.parse_pod_name(metadata["name"])
    if place is None:
        return None
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    trainer = trainer_status(manifest)
    up = is_up(manifest, conditions, trainer)
    disruption = conditions.get("DisruptionTarget", {})
    delete_by = metadata.get("deletionTimestamp")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        attempt=place[0],
        index=place[1],
        node=manifest.get("spec", {}).get("nodeName"),
        ready=up,
        running=runs(conditions, trainer),
        ending=read_ending(status, trainer),
        stopped=has_stopped(manifest),
        over=has_ended(manifest),
        waiting=None if up else read_waiting(manifest, conditions, trainer),
        disrupted=_disruption(disruption),
        disrupted_at=parse_time(disruption.get("lastTransitionTime") or _NEVER),
        reason=status.get("reason"),
        grace_seconds=_grace(manifest),
        delete_by=parse_time(delete_by) if delete_by else None,
        deleted_at=_deleted_at(metadata) if delete_by else None,
        conditions=_true(conditions),
        address=status.get("podIP") if place[1] == 0 else None,
    )


@functools.lru_cache(maxsize=1024)
def _shared(types: frozenset[str]) -> frozenset[str]:
    """Return one shared object for equal sets, because there are few sets and many pods."""
    return types


def _true(conditions: View) -> frozenset[str]:
    return _shared(frozenset(t for t, entry in conditions.items() if entry.get("status") == "True"))


def _grace(manifest: View) -> int | None:
    given = manifest.get("spec", {}).get("terminationGracePeriodSeconds")
    return None if given is None else min(given, names.LONGEST_GRACE)


def _deleted_at(metadata: View) -> datetime:
    grace = min(metadata.get("deletionGracePeriodSeconds") or 0, names.LONGEST_GRACE)
    return parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=grace)


def _disruption(condition: View) -> str | None:
    if condition.get("status") != "True":
        return None
    return str(condition.get("reason") or "DisruptionTarget")
