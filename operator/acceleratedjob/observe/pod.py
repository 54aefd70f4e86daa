"""The facts about a pod that the planner needs.

The manifest of a pod is large, and written by many. A `Pod` is a small frozen summary of it, cheap
enough to be kept for every pod of a large cluster. Whether a replica is up (`containers`) and how
it ended (`endings`) depends on its training container only, not on other containers that end early
or keep running. Only `stopped` is about the whole pod.
"""

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.observe.containers import has_ended, has_stopped, is_up, trainer_status
from acceleratedjob.observe.endings import Ending, read_ending
from acceleratedjob.observe.pending import Waiting, read_waiting

_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a job, as last observed."""

    name: str
    uid: str
    attempt: int
    index: int
    node: str | None = None
    ready: bool = False  # whether its training container and its native sidecars are ready
    ending: Ending | None = None  # of its training container
    stopped: bool = False  # no container runs any more
    over: bool = False  # it stops by itself: at most native sidecars still run
    waiting: Waiting | None = None
    disrupted: str | None = None  # why the cluster stops it: preemption, drain, node loss
    disrupted_at: datetime = names.EPOCH  # since when; the epoch if that is unknown
    reason: str | None = None  # the reason of the pod, not of a container: Evicted, NodeLost, …
    delete_by: datetime | None = None  # the end of its grace period, if it is being deleted
    deleted_at: datetime | None = None  # when its deletion was requested
    conditions: frozenset[str] = frozenset()  # the types of the conditions that are True

    @property
    def asked_to_stop(self) -> bool:
        """Whether the pod was asked to stop, before its training ended if it has ended.

        Of two times in the same second, the request is the earlier one. A pod that was stopped for
        a reason of its own, such as its deadline, has no time of a request.
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
    """The Service or the NetworkPolicy of a job, as last observed."""

    as_made: bool  # it does what it was made for, see `services.is_as_made`
    ports: frozenset[object]  # that it names
    made: datetime
    repairs: int = 0  # how often it was created anew


def read_pod(manifest: View) -> Pod | None:
    """Summarize a pod; None if its name is not that of a job's pod."""
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
    """One shared object for equal sets: there are few sets, and many pods."""
    return types


def _true(conditions: View) -> frozenset[str]:
    return _shared(frozenset(t for t, entry in conditions.items() if entry.get("status") == "True"))


def _deleted_at(metadata: View) -> datetime:
    grace = min(metadata.get("deletionGracePeriodSeconds") or 0, names.LONGEST_GRACE)
    return parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=grace)


def _disruption(condition: View) -> str | None:
    if condition.get("status") != "True":
        return None
    return str(condition.get("reason") or "DisruptionTarget")
