"""Decides the steps of a leader election by a Lease. Pure: the clock is an argument.

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
    """The durations of an election, in seconds; the defaults are those of Kubernetes itself."""

    duration: float = 15.0  # a lease that was not renewed for so long is free
    deadline: float = 10.0  # a holder that could not renew for so long gives up
    retry: float = 2.0  # between two looks of a candidate, and two renewals of the holder

    def __post_init__(self) -> None:
        if self.duration < 1 or self.duration % 1:
            raise ValueError(f"lease duration must be whole seconds, at least 1, got {self}")
        if not self.duration > self.deadline > self.retry > 0:
            raise ValueError(f"duration must exceed deadline, and that retry, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as its holder wrote it; two equal leases are the same renewal."""

    holder: str = ""  # empty: it was given back
    duration: float = 0.0  # seconds
    renewed: str = ""  # by the holder's wall clock: only ever compared for equality
    manifest: Manifest = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, manifest: Manifest) -> "Lease":
        """The lease in a manifest."""
        spec: View = manifest.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration=spec.get("leaseDurationSeconds") or 0,
            renewed=spec.get("renewTime") or "",
            manifest=manifest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one candidate knows; all times are those of its own monotonic clock."""

    lease: Lease | None = None  # as last seen; None if there was none, or nobody has looked
    since: float = -math.inf  # when it was first seen as it is
    tried: float = -math.inf  # when the last request was sent
    fresh: bool = False  # that was a look, and it was answered
    renewed: float | None = None  # when the request was sent that we hold it by; None: we do not

    def saw(self, lease: Lease | None, now: float) -> "Standing":
        """The standing after the lease was read."""
        same = lease is not None and lease == self.lease
        return replace(self, lease=lease, since=self.since if same else now)

    def held(self, lease: Lease, sent: float) -> "Standing":
        """The standing after a request, sent at that time, that acquired or renewed the lease."""
        return replace(self.saw(lease, sent), renewed=sent)


class Step(Enum):
    """The next step of a candidate."""

    LOOK = auto()  # read the lease
    CLAIM = auto()  # write it: take it or renew it, if it still is as it was seen
    WAIT = auto()
    STOP = auto()  # it is lost: nothing may be written any more


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, with its wait or its reason."""

    step: Step
    seconds: float = 0.0  # to wait
    reason: str = ""  # why it is lost


def decide(me: str, terms: Terms, at: Standing, now: float) -> Decision:
    """The next step of one candidate.

    Args:
        me: its identity.
        terms: the durations of the election.
        at: what it knows.
        now: the time of its monotonic clock.
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
    """The time at which the lease may be taken, if it is not renewed before."""
    if at.lease is None or at.lease.holder in ("", me):
        return at.tried
    return at.since + (at.lease.duration or terms.duration)


def claimed(lease: Lease | None, me: str, terms: Terms, time: datetime) -> dict[str, Any]:
    """The spec of a lease that is taken or renewed."""
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
    """The spec of a lease that its holder releases: it is free immediately."""
    given = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time(time)}
    return {**(lease.manifest.get("spec") or {}), **given}


def _micro_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
