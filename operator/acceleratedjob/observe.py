"""What is seen of a job's pods, as facts.

A pod as the API gives it is a large mapping that many write. Here it becomes a small frozen `Pod`
that the deciding half needs, and that is cheap to keep for every pod of a large cluster. Whether a
replica is up (`containers`) and how it has ended (`endings`) follow from its training container:
neither a helper that ends early nor one that runs on matters. Only `stopped` is about all of a pod.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from acceleratedjob import api
from acceleratedjob.api import View, parse_time
from acceleratedjob.containers import has_ended, has_stopped, is_up, trainer_status
from acceleratedjob.endings import Ending, read_ending
from acceleratedjob.status import Status
from acceleratedjob.waits import Waiting, read_waiting

_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of a job, as last seen."""

    name: str
    uid: str
    attempt: int
    index: int
    node: str | None = None
    ready: bool = False  # its training container and native sidecars are
    ending: Ending | None = None  # of its training container
    stopped: bool = False  # nothing of it runs any more, neither the training nor a helper
    over: bool = False  # it stops by itself: nothing but native sidecars may run
    waiting: Waiting | None = None
    disrupted: str | None = None  # why the cluster takes it away: preemption, drain, node loss
    disrupted_at: datetime = api.EPOCH  # since when it does; the epoch if it has not said
    reason: str | None = None  # the pod's own, not its containers': Evicted, NodeLost, …
    delete_by: datetime | None = None  # it is being deleted, and its containers end by then
    deleted_at: datetime | None = None  # when its deletion was asked for
    conditions: frozenset[str] = frozenset()  # types of those that are True

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody asked it to stop before its training ended, if it has ended.

        In one second the request comes first. A pod that was stopped for a reason of its own, such
        as its deadline, tells no time.
        """
        disrupted_at = None if self.disrupted is None else self.disrupted_at
        requests = [at for at in (self.deleted_at, disrupted_at) if at is not None]
        if self.ending is None:
            return bool(requests)
        return min(requests) <= self.ending.time if requests else self.ending.is_pods

    @property
    def succeeded(self) -> bool:
        """Whether the replica's work is done: it ended with 0, and by itself."""
        return self.ending is not None and self.ending.exit_code == 0 and not self.asked_to_stop

    @property
    def grace(self) -> timedelta | None:
        """What its deletion gives it, if it is being deleted."""
        if self.delete_by is None or self.deleted_at is None:
            return None
        return self.delete_by - self.deleted_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server did not take an object of the job."""

    message: str
    final: bool  # it never will
    retry_in: timedelta = timedelta()
    field: str = "spec.template"  # of the job, that is at fault
    holder: str | None = None  # what is being deleted and has the name until it is gone
    stops_within: timedelta = timedelta()  # what the holder's containers have to stop
    lasted: timedelta = timedelta()  # for how long the same has been refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """What there is one of for a job, as last seen."""

    as_made: bool  # it does what it was made for, see `services.is_as_made`
    ports: frozenset[object]  # that it names
    made: datetime
    repairs: int = 0  # how often it was created anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that a plan is made from, besides the spec and the clock."""

    status: Status = field(default_factory=Status)
    pods: tuple[Pod, ...] = ()  # that exist, of whatever attempt
    lost: tuple[Pod, ...] = ()  # seen and gone, as they were last
    # For how long, by a clock that nobody sets (see `since`); what is not here was seen just now:
    stopping: Mapping[str, timedelta] = field(default_factory=dict)  # pods, by uid, are deleted so
    attempt_known_for: timedelta = timedelta()  # the status has had this attempt
    service_uid: str | None = None
    policy_uid: str | None = None  # of the NetworkPolicy
    singles: Mapping[str, Single] = field(default_factory=dict)  # the same two, by their kinds
    refusal: Refusal | None = None

    def is_member(self, pod: Pod, size: int) -> bool:
        """Whether a pod is one of the current attempt's replicas.

        Whoever may create pods can make one with any index: beyond the size it is no replica.
        """
        return pod.attempt == self.status.attempt and pod.index < size

    @property
    def completed(self) -> frozenset[int]:
        """Replicas that have done their work, recorded or seen, if these are the members."""
        seen = (pod.index for pod in (*self.pods, *self.lost) if pod.succeeded)
        return self.status.completed.union(seen)

    def members(self, size: int) -> "Observed":
        """The same with only the pods of the current attempt's replicas."""
        kept = [
            tuple(pod for pod in pods if self.is_member(pod, size))
            for pods in (self.pods, self.lost)
        ]
        return replace(self, pods=kept[0], lost=kept[1])


def read_pod(manifest: View) -> Pod | None:
    """The facts of a pod; None if it is not named as a job's pod is."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    place = api.parse_pod_name(metadata["name"])
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
        ending=read_ending(status, trainer),
        stopped=has_stopped(manifest),
        over=has_ended(manifest),
        waiting=None if up else read_waiting(manifest, conditions, trainer),
        disrupted=_disruption(disruption),
        disrupted_at=parse_time(disruption.get("lastTransitionTime") or _NEVER),
        reason=status.get("reason"),
        delete_by=parse_time(delete_by) if delete_by else None,
        deleted_at=_deleted_at(metadata) if delete_by else None,
        conditions=_true(conditions),
    )


@functools.lru_cache(maxsize=1024)
def _shared(types: frozenset[str]) -> frozenset[str]:
    """The same set for all pods that have it: there are few, and many pods."""
    return types


def _true(conditions: View) -> frozenset[str]:
    return _shared(frozenset(t for t, entry in conditions.items() if entry.get("status") == "True"))


def _deleted_at(metadata: View) -> datetime:
    grace = min(metadata.get("deletionGracePeriodSeconds") or 0, api.LONGEST_GRACE)
    return parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=grace)


def _disruption(condition: View) -> str | None:
    if condition.get("status") != "True":
        return None
    return str(condition.get("reason") or "DisruptionTarget")
