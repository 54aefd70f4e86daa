"""The steps that a plan is made of: all that the operator ever does to a cluster."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class CreateService:
    """Make the job's headless Service."""

    repairs: int = 0  # how often it was created anew, this time included


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Remove the job's Service."""

    kind: ClassVar[str] = "Service"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Make the job's NetworkPolicy."""

    repairs: int = 0  # as of a Service


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Remove the job's NetworkPolicy."""

    kind: ClassVar[str] = "NetworkPolicy"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePodGroup:
    """Make the job's PodGroup as it must be now."""


@dataclass(frozen=True, slots=True)
class DeletePodGroup:
    """Remove the job's PodGroup of a gang, which no watch shows."""

    gang: str


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Make one replica's pod of one attempt."""

    attempt: int
    index: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Remove a pod."""

    kind: ClassVar[str] = "Pod"
    name: str
    uid: str
    grace_seconds: int | None = None  # None: what the pod's own spec says


@dataclass(frozen=True, slots=True)
class Announce:
    """Write an Event that `kubectl describe` shows."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Remove the job itself; the garbage collector takes what it owns."""


Creation = CreateService | CreatePolicy | CreatePodGroup | CreatePod
Removal = DeleteService | DeletePolicy | DeletePod  # of what a watch shows
Deletion = Removal | DeletePodGroup | DeleteJob
Action = Creation | Deletion | Announce
