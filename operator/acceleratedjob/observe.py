"""What is seen of a job's pods, as facts.

A pod as the API gives it is a large mapping that many write. Here it becomes a small frozen `Pod`
that the deciding half needs, and that is cheap to keep for every pod of a large cluster. How a pod
has ended is decided by its training container alone: a sidecar that goes on does not hold the job.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from acceleratedjob import api
from acceleratedjob.api import Manifest, View
from acceleratedjob.status import Status
from acceleratedjob.termination import LastWords, read_last_words
from acceleratedjob.waits import Waiting, read_waiting

_LONGEST_GRACE = 2**31  # seconds: who makes a pod may ask for more than a calendar has
SIGNAL_BASE = 128  # a shell's and a container runtime's exit code for a death by signal n is 128+n


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a pod's training container has ended."""

    exit_code: int | None  # None: the pod was ended before a container could tell
    reason: str  # the kubelet's word: Error, OOMKilled, Evicted, …
    message: str
    time: datetime
    last_words: LastWords | None = None  # the exception that it ended with, if it has told

    @property
    def succeeded(self) -> bool:
        """Whether the replica's work is done."""
        return self.exit_code == 0

    @property
    def signal(self) -> int | None:
        """Number of the signal that ended the process, if one did."""
        code = self.exit_code or 0
        return code - SIGNAL_BASE if SIGNAL_BASE < code <= SIGNAL_BASE + 64 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of a job, as last seen."""

    name: str
    uid: str
    attempt: int
    index: int
    node: str | None = None
    ready: bool = False
    ending: Ending | None = None
    waiting: Waiting | None = None
    disrupted: str | None = None  # why the cluster takes it away: preemption, drain, node loss
    delete_by: datetime | None = None  # it is being deleted, and its containers end by then
    deleted_at: datetime | None = None  # when its deletion was asked for
    conditions: frozenset[str] = frozenset()  # types of those that are True

    @property
    def succeeded(self) -> bool:
        """Whether the replica's work is done."""
        return self.ending is not None and self.ending.succeeded

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
    refusal: Refusal | None = None

    def is_member(self, pod: Pod, size: int) -> bool:
        """Whether a pod is one of the current attempt's replicas.

        Whoever may create pods can make one with any index: beyond the size it is no replica.
        """
        return pod.attempt == self.status.attempt and pod.index < size

    def members(self, size: int) -> "Observed":
        """The same with only the pods of the current attempt's replicas."""
        kept = [
            tuple(pod for pod in pods if self.is_member(pod, size))
            for pods in (self.pods, self.lost)
        ]
        return replace(self, pods=kept[0], lost=kept[1])


def parse_time(text: str) -> datetime:
    """A time as the API writes it, aware, in UTC."""
    return datetime.fromisoformat(text)


def read_pod(manifest: View) -> Pod | None:
    """The facts of a pod; None if it is not named as a job's pod is."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    place = api.parse_pod_name(metadata["name"])
    if place is None:
        return None
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    trainer = _trainer_status(manifest)
    delete_by = metadata.get("deletionTimestamp")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        attempt=place[0],
        index=place[1],
        node=manifest.get("spec", {}).get("nodeName"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        ending=_ending(status, trainer),
        waiting=read_waiting(manifest, conditions, trainer),
        disrupted=_disruption(conditions.get("DisruptionTarget", {})),
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
    grace = min(metadata.get("deletionGracePeriodSeconds") or 0, _LONGEST_GRACE)
    return parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=grace)


def _trainer_status(manifest: View) -> View:
    """The training container's status; empty before the kubelet has written one."""
    name = (manifest["metadata"].get("annotations") or {}).get(api.DEFAULT_CONTAINER)
    statuses: list[Manifest] = (manifest.get("status") or {}).get("containerStatuses") or []
    return next((entry for entry in statuses if name in (None, entry["name"])), {})


def _ending(status: View, trainer: View) -> Ending | None:
    ended: dict[str, Any] = (trainer.get("state") or {}).get("terminated") or {}
    if ended:
        reason = ended.get("reason") or api.Reason.CONTAINER_FAILED
        at = ended.get("finishedAt")
        message = ended.get("message") or ""
        return Ending(
            exit_code=ended["exitCode"],
            reason=reason,
            message=message,
            time=parse_time(at) if at else _last_change(status),
            last_words=read_last_words(message),
        )
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    return Ending(  # evicted, or refused by its node, or an init container has failed
        exit_code=0 if status["phase"] == "Succeeded" else None,
        reason=status.get("reason") or api.Reason.CONTAINER_FAILED,
        message=status.get("message") or _failed_init(status),
        time=_last_change(status),
    )


def _last_change(status: View) -> datetime:
    times = [entry.get("lastTransitionTime") for entry in status.get("conditions") or ()]
    known = [time for time in [*times, status.get("startTime")] if time]
    return max(map(parse_time, known), default=api.EPOCH)


def _failed_init(status: View) -> str:
    """Which init container has failed, if that is why the training container never began."""
    for entry in status.get("initContainerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = f": {ended['message'].strip()}" if ended.get("message") else ""
            return f"init container {entry['name']} exited with code {ended['exitCode']}{said}"
    return ""


def _disruption(condition: View) -> str | None:
    if condition.get("status") != "True":
        return None
    return str(condition.get("reason") or "DisruptionTarget")
