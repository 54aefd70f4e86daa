"""The names of the API: group and kinds, labels, object names, phases, conditions and reasons.

Each name is defined once. Environment variables are defined in `manifests.env`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Manifest = dict[str, Any]  # a Kubernetes object, as decoded from JSON
View = Mapping[str, Any]  # a Kubernetes object that is only read

GROUP = "accelerated.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "AcceleratedJob"
PLURAL = "acceleratedjobs"
COMPONENT = "acceleratedjob-operator"  # the component that reports Events

CONTROLLER = f"{GROUP}/{COMPONENT}"  # the value of spec.managedBy for this operator

JOB_NAME_LABEL = f"{GROUP}/job-name"
JOB_UID_LABEL = f"{GROUP}/job-uid"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REPLICA_INDEX_LABEL = f"{GROUP}/replica-index"
MADE_AS_ANNOTATION = f"{GROUP}/made-as"  # names of fields of the spec, and their hash
REPAIRS_ANNOTATION = f"{GROUP}/repairs"  # how many times an object was re-created
APP_LABELS = {
    "app.kubernetes.io/managed-by": COMPONENT,
    "app.kubernetes.io/component": "trainer",
}

OPERATOR_LABELS = {"app.kubernetes.io/name": "acceleratedjob"}  # set by the chart on its pods

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"  # read by kubectl logs

EPOCH = datetime.fromtimestamp(0, UTC)

# The exit code of a training script that has stopped on request, after saving a checkpoint. A
# program without a handler for SIGTERM (15) exits with the same code.
STOPPED_EXIT_CODE = 128 + 15

LONGEST_GRACE = 2**31  # seconds; a pod's longer grace period would overflow a datetime
MAX_NAME_LENGTH = 50  # the hostname of a pod, at most 63 characters, ends in -<attempt>-<index>


class Phase(StrEnum):
    """The phase of a job: a summary of its conditions for users."""

    PENDING = "Pending"  # some pods are not scheduled
    STARTING = "Starting"  # all pods are scheduled, but not all are ready
    RUNNING = "Running"  # every replica is ready or has succeeded
    RESIZING = "Resizing"  # the attempt has ended, and one of another size starts
    RESTARTING = "Restarting"  # the attempt has ended, and the next one has no pods yet
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The types of conditions, named as in batch/v1 where it defines them."""

    SCHEDULED = "Scheduled"
    READY = "Ready"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    STALLED = "Stalled"  # from kstatus: the job has failed, or its spec is invalid
    HANGING = "Hanging"  # verdicts of the runtime about the training
    STRAGGLING = "Straggling"
    DIVERGED = "Diverged"
    CHECKPOINT_FRESH = "CheckpointFresh"  # little is lost if the pods are taken away
    GRACE_TOO_SHORT = "GraceTooShort"  # a stop needs more time than the pods have


class Reason(StrEnum):
    """The reasons of conditions, Events and failures."""

    ALL_SCHEDULED = "AllScheduled"
    WAITING_FOR_NODES = "WaitingForNodes"
    ALL_READY = "AllReady"
    WAITING_FOR_REPLICAS = "WaitingForReplicas"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    RESTARTED_IN_PLACE = "RestartedInPlace"  # another life has begun in the pods of the attempt
    WENT_ON = "WentOn"  # an attempt has begun to train, at the step of a checkpoint
    FINISHED = "Finished"
    SUCCEEDED = "Succeeded"
    RESTARTING = "Restarting"
    RESIZING = "Resizing"
    SPEC_CHANGED = "SpecChanged"
    NAME_TAKEN = "NameTaken"  # a pod of a deleted job does not stop, and still has its name
    INVALID_SPEC = "InvalidSpec"
    ACCEPTED = "Accepted"  # the spec was invalid while its attempt ran, and is valid again
    FAILURE_POLICY = "FailurePolicy"  # a rule of the job with the action Fail matched
    CANNOT_START = "CannotStart"  # the image or the configuration of the container is wrong
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # from batch/v1
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    MAX_RESTARTS_EXCEEDED = "MaxRestartsExceeded"
    CONTAINER_FAILED = "ContainerFailed"  # a failure for which the kubelet gave no reason
    POD_DELETED = "PodDeleted"
    UNSCHEDULABLE = "Unschedulable"  # from the scheduler
    REFUSED = "Refused"  # the API server rejects an object for now
    NOT_SCHEDULED = "NotScheduled"  # no scheduler has tried to schedule the pod
    SCHEDULING_GATED = "SchedulingGated"  # from the scheduler
    CONTAINER_CREATING = "ContainerCreating"  # from the kubelet; also before it reports anything
    INITIALIZING = "PodInitializing"  # from the kubelet: an init container has not finished
    REPAIRED = "Repaired"  # another client had changed an object of the job
    CHECKPOINT_NOT_SHARED = "CheckpointNotShared"  # the claim can be mounted on one node only
    NO_PROGRESS = "NoProgress"  # three attempts in a row ended at the same step, in the same way
    HANG = "Hang"  # the verdicts of the runtime, see docs/hangs.md
    STRAGGLER = "Straggler"
    DIVERGENCE = "Divergence"
    RECENT = "Recent"  # the newest checkpoint is as old as it may be
    OVERDUE = "Overdue"  # it is older
    NO_CHECKPOINT = "NoCheckpoint"
    GRACE_TOO_SHORT = "GraceTooShort"
    RECOVERED = "Recovered"  # a verdict no longer holds
    ATTEMPT_ENDED = "AttemptEnded"  # a verdict was about processes that have ended
    STALLED = "Stalled"  # the training has hung for stallDeadlineSeconds
    DEVICES_NOT_COUNTED = "DevicesNotCounted"  # processesPerReplica is auto
    TERMINATING = "Terminating"  # pods of an earlier attempt exceed their grace period
    NOT_READY = "NotReady"  # the container runs, but the kubelet reports that it is not ready


def is_ours(job: View) -> bool:
    """Whether this operator runs a job; jobs of another controller (`managedBy`) are ignored."""
    spec = job.get("spec")
    manager = spec.get("managedBy") if isinstance(spec, Mapping) else None
    return manager in (None, CONTROLLER)


def job_labels(job: str) -> dict[str, str]:
    """Return the labels of all objects of a job."""
    return {JOB_NAME_LABEL: job}


def pod_selector(job: str, uid: str) -> dict[str, str]:
    """Return the labels that select the pods of a job, but no pods of a deleted job of its name."""
    return job_labels(job) | {JOB_UID_LABEL: uid}


def pod_name(job: str, attempt: int, index: int) -> str:
    """Return the name, and the hostname, of the pod of a replica in an attempt.

    >>> pod_name("digits", 2, 0)
    'digits-2-0'
    """
    return f"{job}-{attempt}-{index}"


def parse_pod_name(name: str) -> tuple[int, int] | None:
    """Return the attempt and the replica index in the name of a pod; None for any other name.

    Anyone who may create pods can choose the name, so numbers beyond an int32 are rejected.

    >>> parse_pod_name(pod_name("my-job-7", 2, 13))
    (2, 13)
    """
    found = re.fullmatch(r".+-(\d{1,9})-(\d{1,9})", name)
    return (int(found[1]), int(found[2])) if found else None


def pod_address(job: str, namespace: str, attempt: int, index: int) -> str:
    """Return the DNS name of the pod of a replica, under the headless Service of the job."""
    return f"{pod_name(job, attempt, index)}.{job}.{namespace}.svc"


def annotations(manifest: View) -> dict[str, str]:
    """Return the annotations of an object; empty if it has none."""
    return {**(manifest["metadata"].get("annotations") or {})}


def owner_uid(manifest: View) -> str | None:
    """Return the uid of the AcceleratedJob that controls an object; None if none does.

    Ownership is decided by this reference, not by labels, which anyone who may create pods can set.
    """
    found = job_reference(manifest)
    return None if found is None else str(found["uid"])


def job_reference(manifest: View, name: str | None = None) -> View | None:
    """Return the controller reference of an object, if it is an AcceleratedJob (of this name)."""
    references: list[View] = manifest["metadata"].get("ownerReferences") or []
    for one in references:
        if one.get("controller") and one.get("kind") == KIND:
            return one if name in (None, one.get("name")) else None
    return None
