"""The actions of a plan: everything that the operator does to a cluster."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class CreateService:
    """Create the headless Service of the job."""

    repairs: int = 0  # how often it was created anew, this time included


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Delete the Service of the job."""

    kind: ClassVar[str] = "Service"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Create the NetworkPolicy of the job."""

    repairs: int = 0  # as of a Service


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Delete the NetworkPolicy of the job."""

    kind: ClassVar[str] = "NetworkPolicy"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePodGroup:
    """Create or replace the PodGroup of the job."""


@dataclass(frozen=True, slots=True)
class DeletePodGroup:
    """Delete the PodGroup of the job for a gang scheduler; PodGroups are not watched."""

    gang: str


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the pod of a replica in an attempt."""

    attempt: int
    index: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod."""

    kind: ClassVar[str] = "Pod"
    name: str
    uid: str
    grace_seconds: int | None = None  # None: what the pod's own spec says


@dataclass(frozen=True, slots=True)
class Announce:
    """Create an Event, which `kubectl describe` shows."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the job itself; the garbage collector deletes its objects."""


Creation = CreateService | CreatePolicy | CreatePodGroup | CreatePod
Removal = DeleteService | DeletePolicy | DeletePod  # of what a watch shows
Deletion = Removal | DeletePodGroup | DeleteJob
Action = Creation | Deletion | Announce
