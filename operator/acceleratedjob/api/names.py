"""The names of the API: group and kinds, labels, object names, phases, conditions and reasons.

Each name is defined once. Environment variables are defined in `manifests.env`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Manifest = dict[str, Any]  # a Kubernetes object as JSON gives it
View = Mapping[str, Any]  # the same, only read

GROUP = "accelerated.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "AcceleratedJob"
PLURAL = "acceleratedjobs"
COMPONENT = "acceleratedjob-operator"  # the name under which events are reported

CONTROLLER = f"{GROUP}/{COMPONENT}"  # spec.managedBy, if it says that a job is ours

JOB_NAME_LABEL = f"{GROUP}/job-name"
JOB_UID_LABEL = f"{GROUP}/job-uid"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REPLICA_INDEX_LABEL = f"{GROUP}/replica-index"
MADE_AS_ANNOTATION = f"{GROUP}/made-as"  # fields of the spec, and a hash of them
REPAIRS_ANNOTATION = f"{GROUP}/repairs"  # how often an object was created anew
APP_LABELS = {
    "app.kubernetes.io/managed-by": COMPONENT,
    "app.kubernetes.io/component": "trainer",
}

OPERATOR_LABELS = {"app.kubernetes.io/name": "acceleratedjob"}  # of its pods, by the chart

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"  # kubectl logs shows this one

EPOCH = datetime.fromtimestamp(0, UTC)

# What a training that was asked to stop ends with, when it has saved what it had: the code of any
# program that SIGTERM (15) ends, so that one that knows nothing of us says the same.
STOPPED_EXIT_CODE = 128 + 15

LONGEST_GRACE = 2**31  # seconds: who makes a pod may ask for more than a calendar has
MAX_NAME_LENGTH = 50  # leaves room in a pod's 63-character hostname for -<attempt>-<index>


class Phase(StrEnum):
    """The phase of a job: a summary for people."""

    PENDING = "Pending"  # some pods have no node yet
    STARTING = "Starting"  # all pods have a node, not all are ready
    RUNNING = "Running"  # every replica is ready or has succeeded
    RESIZING = "Resizing"  # an attempt was ended for one of another size
    RESTARTING = "Restarting"  # an attempt is over, the next one's pods are not made yet
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The types of conditions, with the names of batch/v1 where it has them."""

    SCHEDULED = "Scheduled"
    READY = "Ready"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    STALLED = "Stalled"  # kstatus' word for what has failed, or cannot go on from its spec


class Reason(StrEnum):
    """The reasons of conditions, events and failures."""

    ALL_SCHEDULED = "AllScheduled"
    WAITING_FOR_NODES = "WaitingForNodes"
    ALL_READY = "AllReady"
    WAITING_FOR_REPLICAS = "WaitingForReplicas"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    FINISHED = "Finished"
    SUCCEEDED = "Succeeded"
    RESTARTING = "Restarting"
    RESIZING = "Resizing"
    SPEC_CHANGED = "SpecChanged"
    NAME_TAKEN = "NameTaken"  # a deleted job's pod does not stop, and keeps its name
    INVALID_SPEC = "InvalidSpec"
    ACCEPTED = "Accepted"  # a spec that was refused while its attempt ran
    FAILURE_POLICY = "FailurePolicy"  # a rule of the job's says Fail
    CANNOT_START = "CannotStart"  # the image or the container's configuration is wrong
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # batch/v1's word
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    MAX_RESTARTS_EXCEEDED = "MaxRestartsExceeded"
    CONTAINER_FAILED = "ContainerFailed"  # a failure for which the kubelet gave no reason
    POD_DELETED = "PodDeleted"
    UNSCHEDULABLE = "Unschedulable"  # the scheduler's word
    REFUSED = "Refused"  # the API server does not take an object for now
    NOT_SCHEDULED = "NotScheduled"  # the scheduler has not said anything
    SCHEDULING_GATED = "SchedulingGated"  # the scheduler's word
    CONTAINER_CREATING = "ContainerCreating"  # the kubelet's word, also before it says anything
    INITIALIZING = "PodInitializing"  # the kubelet's word: an init container has not ended
    REPAIRED = "Repaired"  # somebody had changed an object of the job's
    DEVICES_NOT_COUNTED = "DevicesNotCounted"  # of processesPerReplica auto
    TERMINATING = "Terminating"  # pods of an earlier attempt do not stop in their time
    NOT_READY = "NotReady"  # runs, and the kubelet says that it is not ready


def is_ours(job: View) -> bool:
    """Whether this operator runs a job; jobs of another controller (`managedBy`) are ignored."""
    spec = job.get("spec")
    manager = spec.get("managedBy") if isinstance(spec, Mapping) else None
    return manager in (None, CONTROLLER)


def job_labels(job: str) -> dict[str, str]:
    """The labels of all objects of a job."""
    return {JOB_NAME_LABEL: job}


def pod_selector(job: str, uid: str) -> dict[str, str]:
    """The labels that select the pods of a job, but not those of a deleted job of the same name."""
    return job_labels(job) | {JOB_UID_LABEL: uid}


def pod_name(job: str, attempt: int, index: int) -> str:
    """The name, and the hostname, of the pod of a replica in an attempt.

    >>> pod_name("digits", 2, 0)
    'digits-2-0'
    """
    return f"{job}-{attempt}-{index}"


def parse_pod_name(name: str) -> tuple[int, int] | None:
    """The attempt and the replica index in the name of a pod; None if it has another form.

    Whoever creates a pod chooses its name: numbers beyond an int32 are rejected.

    >>> parse_pod_name(pod_name("my-job-7", 2, 13))
    (2, 13)
    """
    found = re.fullmatch(r".+-(\d{1,9})-(\d{1,9})", name)
    return (int(found[1]), int(found[2])) if found else None


def pod_address(job: str, namespace: str, attempt: int, index: int) -> str:
    """The DNS name of the pod of a replica, under the headless Service of the job."""
    return f"{pod_name(job, attempt, index)}.{job}.{namespace}.svc"


def annotations(manifest: View) -> dict[str, str]:
    """The annotations of an object; empty if it has none."""
    return {**(manifest["metadata"].get("annotations") or {})}


def owner_uid(manifest: View) -> str | None:
    """The uid of the AcceleratedJob that controls an object; None if none does.

    Ownership is decided by this reference, not by labels, which anyone who may create pods can set.
    """
    found = job_reference(manifest)
    return None if found is None else str(found["uid"])


def job_reference(manifest: View, name: str | None = None) -> View | None:
    """The owner reference to the AcceleratedJob (with a name, if given) that controls an object."""
    references: list[View] = manifest["metadata"].get("ownerReferences") or []
    for one in references:
        if one.get("controller") and one.get("kind") == KIND:
            return one if name in (None, one.get("name")) else None
    return None
