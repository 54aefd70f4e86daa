"""Whether a pod is up, and whether it has stopped, from the states of its containers.

A replica is up if its training container and its native sidecars (init containers that restart) are
ready. All other containers are helpers: they may terminate at any time, and may keep running after
the training container has terminated.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import View

OVER = ("Succeeded", "Failed")  # phases of a pod whose containers have all terminated


def trainer_status(pod: View) -> View:
    """Return the status of the training container; empty before the kubelet has written it."""
    name = (pod["metadata"].get("annotations") or {}).get(names.DEFAULT_CONTAINER)
    statuses = _statuses(pod, "containerStatuses")
    return next((entry for entry in statuses if name in (None, entry["name"])), {})


def trainer_name(pod: View) -> str:
    """Return the name of the training container of a pod."""
    annotations = pod["metadata"].get("annotations") or {}
    return str(annotations.get(names.DEFAULT_CONTAINER) or pod["spec"]["containers"][0]["name"])


def has_begun(pod: View) -> bool:
    """Whether the training container of a pod has started, so that it has a log."""
    name, statuses = trainer_name(pod), _statuses(pod, "containerStatuses")
    states = (entry.get("state") or {} for entry in statuses if entry["name"] == name)
    return any("running" in state or "terminated" in state for state in states)


def is_up(pod: View, conditions: Mapping[str, View], trainer: View) -> bool:
    """Whether a replica is up.

    The condition Ready of the pod is not enough, because it is also False if a helper is not ready.
    If it is False while all containers are ready, the node is lost or a readiness gate is not met.

    Args:
        pod: the manifest of the pod.
        conditions: the conditions of the pod, by type.
        trainer: the status of the training container; empty if there is none yet.
    """
    if _holds(conditions, "Ready"):
        return True
    if _holds(conditions, "ContainersReady") or not _is_ready(trainer):
        return False
    ready = {e["name"] for e in _statuses(pod, "initContainerStatuses") if _is_ready(e)}
    gates = (gate["conditionType"] for gate in (pod.get("spec") or {}).get("readinessGates") or ())
    return ready.issuperset(_sidecars(pod)) and all(_holds(conditions, gate) for gate in gates)


def runs(conditions: Mapping[str, View], trainer: View) -> bool:
    """Whether the training container runs, ready or not: the probe of one that hangs may fail.

    What is known of a container on a lost node is old: the node's last word was ContainersReady,
    and the cluster has set Ready to False since.

    Args:
        conditions: the conditions of the pod, by type.
        trainer: the status of the training container; empty if there is none yet.
    """
    is_lost = _holds(conditions, "ContainersReady") and not _holds(conditions, "Ready")
    return "running" in (trainer.get("state") or {}) and not is_lost


def has_stopped(pod: View) -> bool:
    """Whether no container of a pod runs or will run, so that its devices are free."""
    if (pod.get("status") or {}).get("phase") in OVER:
        return True
    before = (entry.get("state") or {} for entry in _statuses(pod, "initContainerStatuses"))
    return _all_terminated(pod) and not any("running" in state for state in before)


def has_ended(pod: View) -> bool:
    """Whether a pod terminates by itself: the kubelet stops native sidecars after the others."""
    return has_stopped(pod) or _all_terminated(pod)


def _all_terminated(pod: View) -> bool:
    states = [entry.get("state") or {} for entry in _statuses(pod, "containerStatuses")]
    wanted = len((pod.get("spec") or {}).get("containers") or ())
    return bool(states) and len(states) >= wanted and all("terminated" in one for one in states)


def _statuses(pod: View, field: str) -> list[Any]:
    return (pod.get("status") or {}).get(field) or []


def _is_ready(container: View) -> bool:
    return bool(container.get("ready")) and "running" in (container.get("state") or {})


def _holds(conditions: Mapping[str, View], type_: str) -> bool:
    return conditions.get(type_, {}).get("status") == "True"


def _sidecars(pod: View) -> Iterator[str]:
    for container in (pod.get("spec") or {}).get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container["name"]
