"""Why a pod does not run, in one word and one sentence, so that pods that wait alike count as one.

The scheduler's word comes first, then that of the first init container that holds the others up,
then the training container's. A sentence names no pod: it is shown for all that wait for it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from acceleratedjob.api import Reason, View

# The kubelet goes on trying for ever when a container cannot be made. For what never changes it is
# given no time; a registry may be away for a moment, and a Secret may come after the job.
CANNOT_START = {
    "InvalidImageName": timedelta(),
    "ErrImageNeverPull": timedelta(),
    "ErrImagePull": timedelta(seconds=60),
    "ImagePullBackOff": timedelta(seconds=60),
    "ImageInspectError": timedelta(seconds=60),
    "CreateContainerConfigError": timedelta(seconds=60),
    "CreateContainerError": timedelta(seconds=60),
}
# What decides something when it lasts, and so is timed for each replica.
TIMED = frozenset({*CANNOT_START, Reason.UNSCHEDULABLE})

# The kubelet uses these words in turns for the same problem; the first one stands for all.
_ALIKE = (("ImagePullBackOff", "ErrImagePull"),)
_USUAL = ("ContainerCreating", "PodInitializing")
_OF_ONE_POD = re.compile(r" pod=\S+|(?<=back-off )\S+ |pods \"[^\"]+\" (is forbidden: )?")
_CREATING = "the node prepares the container: its image, volumes and network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a pod does not run yet."""

    reason: str
    message: str


_IS_CREATED = Waiting(reason=Reason.CONTAINER_CREATING, message=_CREATING)


def read_waiting(pod: View, conditions: View, trainer: View) -> Waiting | None:
    """Why a pod waits; None if it is up, has ended, or nothing is known of it yet.

    Args:
        pod: its manifest.
        conditions: its conditions by their types.
        trainer: the status of its training container, empty if there is none yet.
    """
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _unscheduled(pod.get("spec", {}), scheduled)
    if not pod.get("spec", {}).get("nodeName"):
        is_unseen = bool(pod.get("status")) and not scheduled  # what a creation answers has none
        return _unseen(pod.get("spec") or {}) if is_unseen else None
    state = trainer.get("state") or {}
    if "running" in state:
        return _unready(conditions.get("Ready", {}))
    if "terminated" in state:
        return None
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return _initializing(statuses) or _told(state, "") or _IS_CREATED


def alike(reason: str) -> frozenset[str]:
    """All words for what a reason says, itself among them.

    >>> sorted(alike("ErrImagePull"))
    ['ErrImagePull', 'ImagePullBackOff']
    """
    return frozenset(next((words for words in _ALIKE if reason in words), (reason,)))


def usual_word(reason: str) -> str:
    """The one word for all that are alike.

    >>> usual_word("ErrImagePull"), usual_word("Unschedulable")
    ('ImagePullBackOff', 'Unschedulable')
    """
    return next((words[0] for words in _ALIKE if reason in words), reason)


def without_names(message: str) -> str:
    """A message without what is different for each pod.

    >>> without_names('pods "digits-0-1" is forbidden: exceeded quota: few')
    'exceeded quota: few'
    """
    return _OF_ONE_POD.sub("", message)


def _unscheduled(pod_spec: View, scheduled: View) -> Waiting | None:
    reason, message = scheduled.get("reason"), scheduled.get("message") or ""
    if reason == Reason.SCHEDULING_GATED:
        gates = ", ".join(gate["name"] for gate in pod_spec.get("schedulingGates") or ())
        message = f"waits for its queue, which has yet to lift the scheduling gate {gates}"
    return Waiting(reason=reason, message=message) if reason else None


def _unseen(pod_spec: View) -> Waiting:
    """No scheduler has looked at it: there is none of this name, or a claim is not there yet."""
    message = f"the scheduler {pod_spec.get('schedulerName', 'default-scheduler')} has not tried it"
    if pod_spec.get("resourceClaims"):
        names = ", ".join(claim["name"] for claim in pod_spec["resourceClaims"])
        message = f"{message}; it needs the resource claims {names}"
    return Waiting(reason=Reason.NOT_SCHEDULED, message=message)


def _unready(ready: View) -> Waiting | None:
    if ready.get("status") != "False":
        return None
    message = ready.get("message") or "its readiness probe has not succeeded"
    return Waiting(reason=Reason.NOT_READY, message=f"runs and is not ready: {message}")


def _initializing(statuses: Iterable[View]) -> Waiting | None:
    """The first init container that is not done; one that is a sidecar is done once it runs."""
    for status in statuses:
        state, name = status.get("state") or {}, f"init container {status['name']}"
        if (state.get("terminated") or {}).get("exitCode") == 0 or status.get("started"):
            continue
        if "running" in state:
            return Waiting(reason=Reason.INITIALIZING, message=f"{name} has not ended yet")
        return _told(state, f"{name}: ")
    return None


def _told(state: View, prefix: str) -> Waiting | None:
    """The kubelet's reason, if it is more than the usual start."""
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason")
    if not reason or reason in _USUAL:
        return None
    message = without_names(waiting.get("message") or "")
    return Waiting(reason=reason, message=f"{prefix}{message}")
