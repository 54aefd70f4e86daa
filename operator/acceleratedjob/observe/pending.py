"""Why a pod does not run: a reason and a message, equal for pods that wait for the same thing.

The scheduler's reason comes first, then that of the first init container that has not finished,
then that of the training container. The message does not contain the name of the pod.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from acceleratedjob.api.names import Reason, View
from acceleratedjob.api.reasons import without_names

_USUAL = ("ContainerCreating", "PodInitializing")
_CREATING = "the node prepares the container: its image, volumes and network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a pod does not run yet.

    Attributes:
        reason: the reason of the scheduler or the kubelet.
        message: a sentence without the name of the pod.
    """

    reason: str
    message: str


_IS_CREATED = Waiting(reason=Reason.CONTAINER_CREATING, message=_CREATING)


def read_waiting(pod: View, conditions: View, trainer: View) -> Waiting | None:
    """Return why a pod waits; None if it is up, has ended, or nothing is known about it yet.

    Args:
        pod: the manifest of the pod.
        conditions: the conditions of the pod, by type.
        trainer: the status of the training container; empty if there is none yet.
    """
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _unscheduled(pod.get("spec", {}), scheduled)
    if not pod.get("spec", {}).get("nodeName"):
        is_unseen = bool(pod.get("status")) and not scheduled  # a create's response has no status
        return _unseen(pod.get("spec") or {}) if is_unseen else None
    state = trainer.get("state") or {}
    if "running" in state:
        return _unready(conditions.get("Ready", {}))
    if "terminated" in state:
        return None
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return _initializing(statuses) or _told(state, "") or _IS_CREATED


def _unscheduled(pod_spec: View, scheduled: View) -> Waiting | None:
    reason, message = scheduled.get("reason"), scheduled.get("message") or ""
    if reason == Reason.SCHEDULING_GATED:
        gates = ", ".join(gate["name"] for gate in pod_spec.get("schedulingGates") or ())
        message = f"waits until its queue removes the scheduling gate {gates}"
    return Waiting(reason=reason, message=message) if reason else None


def _unseen(pod_spec: View) -> Waiting:
    """Explain a pod that no scheduler has handled.

    The scheduler may not exist, or wait for a resource claim that is missing.
    """
    message = (
        f"the scheduler {pod_spec.get('schedulerName', 'default-scheduler')} has not tried to "
        "schedule it"
    )
    if pod_spec.get("resourceClaims"):
        names = ", ".join(claim["name"] for claim in pod_spec["resourceClaims"])
        message = f"{message}; it needs the resource claims {names}"
    return Waiting(reason=Reason.NOT_SCHEDULED, message=message)


def _unready(ready: View) -> Waiting | None:
    if ready.get("status") != "False":
        return None
    message = ready.get("message") or "its readiness probe has not succeeded"
    return Waiting(reason=Reason.NOT_READY, message=f"runs, but is not ready: {message}")


def _initializing(statuses: Iterable[View]) -> Waiting | None:
    """Return the wait for the first unfinished init container; a sidecar must only be started."""
    for status in statuses:
        state, name = status.get("state") or {}, f"init container {status['name']}"
        if (state.get("terminated") or {}).get("exitCode") == 0 or status.get("started"):
            continue
        if "running" in state:
            return Waiting(reason=Reason.INITIALIZING, message=f"{name} has not finished yet")
        return _told(state, f"{name}: ")
    return None


def _told(state: View, prefix: str) -> Waiting | None:
    """Return the reason that the kubelet gives; None for the reasons of every start."""
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason")
    if not reason or reason in _USUAL:
        return None
    message = without_names(waiting.get("message") or "")
    return Waiting(reason=reason, message=f"{prefix}{message}")
