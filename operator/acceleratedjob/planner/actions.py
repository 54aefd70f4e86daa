"""The actions of a plan: everything that the operator does to a cluster."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class CreateService:
    """Create the headless Service of the job.

    Attributes:
        repairs: how many times the Service was re-created, including this time.
    """

    repairs: int = 0


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Delete the Service of the job.

    Attributes:
        kind: the kind of the object.
        uid: the uid of the Service.
    """

    kind: ClassVar[str] = "Service"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Create the NetworkPolicy of the job.

    Attributes:
        repairs: how many times the NetworkPolicy was re-created, including this time.
    """

    repairs: int = 0


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Delete the NetworkPolicy of the job.

    Attributes:
        kind: the kind of the object.
        uid: the uid of the NetworkPolicy.
    """

    kind: ClassVar[str] = "NetworkPolicy"
    uid: str


@dataclass(frozen=True, slots=True)
class CreatePodGroup:
    """Create or replace the PodGroup of the job."""


@dataclass(frozen=True, slots=True)
class DeletePodGroup:
    """Delete the PodGroup of the job for a gang scheduler; PodGroups are not watched.

    Attributes:
        gang: the gang scheduler, as in `spec.scheduling.gang`.
    """

    gang: str


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Create the claim of the job's checkpoints; claims are not watched."""


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the pod of a replica in an attempt.

    Attributes:
        attempt: the number of the attempt.
        index: the index of the replica.
    """

    attempt: int
    index: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod.

    Attributes:
        kind: the kind of the object.
        name: the name of the pod.
        uid: the uid of the pod.
        grace_seconds: the grace period; None for the one in the spec of the pod.
    """

    kind: ClassVar[str] = "Pod"
    name: str
    uid: str
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class GiveNotice:
    """Tell the coordinator of an attempt, in the pod of replica 0, that its pods are deleted.

    Attributes:
        pod: the uid of the pod.
        attempt: the number of the attempt.
        address: the IP address of the pod.
        port: the progress port of the job.
        seconds: the time until the first pod is killed.
    """

    pod: str
    attempt: int
    address: str
    port: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Create an Event, which `kubectl describe` shows.

    Attributes:
        reason: the reason of the Event.
        message: the message of the Event.
        warning: whether the Event is of type Warning, rather than Normal.
    """

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the job itself; the garbage collector deletes its objects."""


Creation = CreateService | CreatePolicy | CreatePodGroup | CreateClaim | CreatePod
Removal = DeleteService | DeletePolicy | DeletePod  # deletions of objects that are watched
Deletion = Removal | DeletePodGroup | DeleteJob
Write = Creation | Deletion | Announce  # to the cluster
Action = Write | GiveNotice
