"""Decides the steps of a leader election by a Lease; pure: the clock is an argument.

The rules are client-go's (tools/leaderelection). Wall clocks of different machines are never
compared: a candidate records on its own monotonic clock when it first saw the current lease, and
takes the lease only if it has not changed for the duration that its holder wrote. The holder stops
earlier, so that two operators never write at the same time.
"""

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any

from acceleratedjob.api.names import Manifest, View

KIND = "Lease"
API_VERSION = "coordination.k8s.io/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The durations of an election, in seconds; the defaults are those of Kubernetes itself.

    Attributes:
        duration: the time without a renewal after which a lease is free.
        deadline: the time without a renewal after which the holder gives up the lease.
        retry: the time between two reads of a candidate, and between two renewals of the holder.

    Raises:
        ValueError: the durations are not duration > deadline > retry > 0, or `duration` is not a
            whole number.
    """

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if self.duration < 1 or self.duration % 1:
            raise ValueError(f"lease duration must be whole seconds, at least 1, got {self}")
        if not self.duration > self.deadline > self.retry > 0:
            raise ValueError(f"duration > deadline > retry > 0 must hold, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as its holder wrote it; two equal leases are the same renewal.

    Attributes:
        holder: the identity of the holder; empty if the lease was released.
        duration: the seconds without a renewal after which the lease is free.
        renewed: the time of the renewal by the holder's wall clock; compared for equality only.
        manifest: the whole Lease.
    """

    holder: str = ""
    duration: float = 0.0
    renewed: str = ""
    manifest: Manifest = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, manifest: Manifest) -> "Lease":
        """Return the lease in a manifest."""
        spec: View = manifest.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration=spec.get("leaseDurationSeconds") or 0,
            renewed=spec.get("renewTime") or "",
            manifest=manifest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a candidate knows; all times are those of its own monotonic clock.

    Attributes:
        lease: the lease as last read; None if it did not exist, or was not read yet.
        since: when this renewal of the lease was first seen.
        tried: when the last request was sent.
        fresh: whether the last request was a read that succeeded.
        renewed: when the request was sent that acquired or last renewed the lease; None if this
            candidate is not the holder.
    """

    lease: Lease | None = None
    since: float = -math.inf
    tried: float = -math.inf
    fresh: bool = False
    renewed: float | None = None

    def saw(self, lease: Lease | None, now: float) -> "Standing":
        """Return the standing after the lease was read."""
        same = lease is not None and lease == self.lease
        return replace(self, lease=lease, since=self.since if same else now)

    def held(self, lease: Lease, sent: float) -> "Standing":
        """Return the standing after a request, sent at `sent`, acquired or renewed the lease."""
        return replace(self.saw(lease, sent), renewed=sent)


class Step(Enum):
    """The next step of a candidate."""

    LOOK = auto()  # read the lease
    CLAIM = auto()  # write the lease, to acquire or renew it, if it has not changed since the read
    WAIT = auto()
    STOP = auto()  # the lease is lost: nothing may be written any more


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step of a candidate.

    Attributes:
        step: the step.
        seconds: how long to wait, for WAIT.
        reason: why the lease is lost, for STOP.
    """

    step: Step
    seconds: float = 0.0
    reason: str = ""


def decide(me: str, terms: Terms, at: Standing, now: float) -> Decision:
    """Return the next step of a candidate.

    Args:
        me: the identity of the candidate.
        terms: the durations of the election.
        at: what the candidate knows.
        now: the current time of its monotonic clock.
    """
    if at.renewed is not None:
        return _as_holder(me, terms, at, now)
    free_at = _free_at(me, terms, at) if at.fresh else math.inf
    if free_at <= now:
        return Decision(Step.CLAIM)
    look_at = at.tried + terms.retry
    if look_at <= now:
        return Decision(Step.LOOK)
    return Decision(Step.WAIT, seconds=min(free_at, look_at) - now)


def _as_holder(me: str, terms: Terms, at: Standing, now: float) -> Decision:
    if at.lease is not None and at.lease.holder != me:
        return Decision(Step.STOP, reason=f"it is held by {at.lease.holder or 'nobody'}")
    gives_up_at = (at.renewed or 0.0) + terms.deadline
    if gives_up_at <= now:
        return Decision(Step.STOP, reason=f"it could not be renewed for {terms.deadline:g} s")
    renew_at = at.tried + terms.retry
    if renew_at <= now:
        return Decision(Step.CLAIM)
    return Decision(Step.WAIT, seconds=min(gives_up_at, renew_at) - now)


def _free_at(me: str, terms: Terms, at: Standing) -> float:
    """Return when the lease may be acquired, unless it is renewed before."""
    if at.lease is None or at.lease.holder in ("", me):
        return at.tried
    return at.since + (at.lease.duration or terms.duration)


def claimed(lease: Lease | None, me: str, terms: Terms, time: datetime) -> dict[str, Any]:
    """Return the spec to acquire or renew a lease."""
    old: View = lease.manifest.get("spec") or {} if lease else {}
    ours = lease is not None and lease.holder == me
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": int(terms.duration),
        "acquireTime": (old.get("acquireTime") if ours else None) or _micro_time(time),
        "renewTime": _micro_time(time),
        "leaseTransitions": (old.get("leaseTransitions") or 0) + (lease is not None and not ours),
    }


def released(lease: Lease, time: datetime) -> dict[str, Any]:
    """Return the spec to release a lease, which is then free immediately."""
    given = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time(time)}
    return {**(lease.manifest.get("spec") or {}), **given}


def _micro_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
