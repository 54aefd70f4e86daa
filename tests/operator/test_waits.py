from typing import Any

import pytest

from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import read_pod
from acceleratedjob.planner.report import progress
from tests.operator.builders import NOW, pod, spec

RUNNING: dict[str, Any] = {"running": {}}
DONE = {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T12:00:00Z"}}
UP = {"type": "PodScheduled", "status": "True"}
CREATING = Waiting(
    reason="ContainerCreating",
    message="the node prepares the container: its image, volumes and network",
)


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def seen(
    trainer: dict[str, Any] | None,
    *init: dict[str, Any],
    node: str | None = "n0",
    gates: tuple[str, ...] = (),
    condition: dict[str, str] | None = UP,
    **fields: Any,
) -> Waiting | None:
    """Why a pod waits, with states of its training and its init containers."""
    status: dict[str, Any] = {
        "conditions": [condition] if condition else [],
        "initContainerStatuses": [{"name": f"i{n}", **one} for n, one in enumerate(init)],
    }
    if trainer is not None:
        status["containerStatuses"] = [{"name": "trainer", "state": trainer}]
    manifest = {
        "metadata": {"name": "digits-0-1", "uid": "u"},
        "spec": {"nodeName": node, "schedulingGates": [{"name": gate} for gate in gates]} | fields,
        "status": status,
    }
    found = read_pod(manifest)
    assert found is not None
    return found.waiting


def unscheduled(reason: str, message: str = "") -> dict[str, str]:
    return {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("waiting", "reason", "message"),
    [
        pytest.param(
            seen(None, node=None, condition=unscheduled("Unschedulable", "0/9 nodes")),
            "Unschedulable",
            "0/9 nodes",
            id="the scheduler's sentence",
        ),
        pytest.param(
            seen(None, node=None, gates=("q/a",), condition=unscheduled("SchedulingGated", "-")),
            "SchedulingGated",
            "waits until its queue removes the scheduling gate q/a",
            id="a queue's gate, by name",
        ),
        pytest.param(
            seen(None, node=None, condition=None, schedulerName="volcano"),
            "NotScheduled",
            "the scheduler volcano has not tried to schedule it",
            id="a scheduler that is not installed",
        ),
        pytest.param(
            seen(None, node=None, condition=None, resourceClaims=[{"name": "gpus"}]),
            "NotScheduled",
            "the scheduler default-scheduler has not tried to schedule it; it needs the resource "
            "claims gpus",
            id="a resource claim that is not there",
        ),
        pytest.param(
            seen(waits("ImagePullBackOff", "no such image")),
            "ImagePullBackOff",
            "no such image",
            id="the kubelet's sentence",
        ),
        pytest.param(
            seen(waits("PodInitializing"), {"state": DONE}, {"state": RUNNING}),
            "PodInitializing",
            "init container i1 has not finished yet",
            id="the init container that all wait for",
        ),
        pytest.param(
            seen(waits("PodInitializing"), {"state": waits("ErrImagePull", "no")}),
            "ErrImagePull",
            "init container i0: no",
            id="an init container's image",
        ),
        pytest.param(
            seen(
                waits("PodInitializing"),
                {
                    "state": waits(
                        "CrashLoopBackOff",
                        "back-off 10s restarting failed container=i0 pod=digits-0-1_ns(8a)",
                    )
                },
            ),
            "CrashLoopBackOff",
            "init container i0: back-off restarting failed container=i0",
            id="a sidecar that crashes, without the pod's name",
        ),
        pytest.param(
            seen(RUNNING, condition={"type": "Ready", "status": "False", "message": "proxy"}),
            "NotReady",
            "runs, but is not ready: proxy",
            id="runs, and is not ready",
        ),
    ],
)
def test_why_a_pod_waits(waiting: Waiting | None, reason: str, message: str) -> None:
    assert waiting == Waiting(reason=reason, message=message)


@pytest.mark.parametrize(
    "waiting",
    [
        pytest.param(seen(None), id="its node has said nothing yet"),
        pytest.param(seen(waits("ContainerCreating")), id="the usual"),
        pytest.param(
            seen(waits("PodInitializing"), {"state": RUNNING, "started": True}),
            id="its sidecar runs already",
        ),
    ],
)
def test_a_pod_with_a_node_that_has_not_begun(waiting: Waiting | None) -> None:
    assert waiting == CREATING


@pytest.mark.parametrize(
    "waiting",
    [
        pytest.param(seen(None, node=None), id="a scheduler has just found its node"),
        pytest.param(seen(DONE), id="it has ended"),
        pytest.param(seen(RUNNING), id="it runs"),
    ],
)
def test_a_pod_that_waits_for_nothing(waiting: Waiting | None) -> None:
    assert waiting is None


def test_a_quotas_refusal_counts_the_pods_that_are_missing_and_names_none() -> None:
    said = 'pods "digits-0-1" is forbidden: exceeded quota: few (403)'
    refusal = Refusal(message=said, final=False)
    status = progress(spec(replicas=4), Observed(pods=(pod(0),), refusal=refusal), NOW)
    (entry,) = status.pending
    assert (entry.reason, entry.count, entry.message) == ("Refused", 3, "exceeded quota: few (403)")
