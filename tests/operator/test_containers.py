"""What a job comes to, from what the kubelet says of all its pods' containers."""

from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import read_pod
from acceleratedjob.planner.actions import DeletePod
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.state import Plan
from tests.operator.builders import NOW, ago, spec
from tests.operator.stages import RUNNING

RUNS: Manifest = {"ready": True, "state": {"running": {}}}
UNREADY: Manifest = {"ready": False, "state": {"running": {}}}
SIDECAR = {"name": "proxy", "restartPolicy": "Always"}


def ends(code: int = 0, seconds_ago: float = 10, **more: Any) -> Manifest:
    """The state of a container that has ended."""
    reason = "Error" if code else "Completed"
    ended = {"exitCode": code, "reason": reason, "finishedAt": format_time(ago(seconds_ago))}
    return {"ready": False, "state": {"terminated": ended | more}}


def condition(type_: str, holds: bool, seconds_ago: float = 60, **more: str) -> Manifest:
    at = format_time(ago(seconds_ago))
    return {"type": type_, "status": str(holds), "lastTransitionTime": at, **more}


def kubelets(pod_ready: bool, containers_ready: bool) -> list[Manifest]:
    return [condition("Ready", pod_ready), condition("ContainersReady", containers_ready)]


def pod(index: int, /, *conditions: Manifest, **containers: Manifest) -> Manifest:
    """A pod of the job, with the states of its containers."""
    statuses = [{"name": name} | state for name, state in containers.items()]
    usual = [{"name": name} for name in containers if name != "proxy"]
    return {
        "metadata": {
            "name": f"digits-0-{index}",
            "uid": f"u-{index}",
            "annotations": {"kubectl.kubernetes.io/default-container": "trainer"},
        },
        "spec": {"nodeName": "n0", "containers": usual, "initContainers": [SIDECAR]},
        "status": {
            "phase": "Running",
            "conditions": list(conditions),
            "containerStatuses": [each for each in statuses if each["name"] != "proxy"],
            "initContainerStatuses": [each for each in statuses if each["name"] == "proxy"],
        },
    }


def failed(made: Manifest, reason: str, message: str = "why") -> Manifest:
    """The same pod, over for a reason of its own."""
    made["status"] |= {"phase": "Failed", "reason": reason, "message": message}
    return made


def deleted(made: Manifest, seconds_ago: float, grace: int = 30) -> Manifest:
    """The same pod, whose deletion was asked for."""
    by = format_time(ago(seconds_ago - grace))
    made["metadata"] |= {"deletionTimestamp": by, "deletionGracePeriodSeconds": grace}
    return made


def evicted(seconds_ago: float) -> Manifest:
    reason = "EvictionByEvictionAPI"
    return condition("DisruptionTarget", holds=True, seconds_ago=seconds_ago, reason=reason)


UP = pod(0, *kubelets(pod_ready=True, containers_ready=True), proxy=RUNS, trainer=RUNS)


def planned(*pods: Manifest, **fields: object) -> Plan:
    seen = tuple(found for each in pods if (found := read_pod(each)) is not None)
    return plan(spec(**fields), Observed(status=RUNNING, pods=seen, service_uid="s"), NOW)


@pytest.mark.parametrize(
    ("other", "ready"),
    [
        pytest.param(
            pod(1, *kubelets(False, False), proxy=RUNS, trainer=RUNS, helper=ends()),
            True,
            id="a helper that has done its work leaves its replica up",
        ),
        pytest.param(
            pod(1, *kubelets(False, False), proxy=RUNS, trainer=RUNS, helper=ends(1)),
            True,
            id="so does one that has failed: only the training ends an attempt",
        ),
        pytest.param(
            pod(1, *kubelets(False, False), proxy=RUNS, trainer=UNREADY, helper=ends()),
            False,
            id="the training container's own probe counts",
        ),
        pytest.param(
            pod(1, *kubelets(False, False), proxy=UNREADY, trainer=RUNS, helper=RUNS),
            False,
            id="a native sidecar is part of the replica",
        ),
        pytest.param(
            pod(1, *kubelets(False, True), proxy=RUNS, trainer=RUNS, helper=RUNS),
            False,
            id="its node is lost: containers were ready when it was last heard of",
        ),
        pytest.param(
            pod(1, *kubelets(True, True), proxy=RUNS, trainer=RUNS, helper=RUNS),
            True,
            id="all are ready",
        ),
    ],
)
def test_a_replica_is_up_when_its_training_container_and_native_sidecars_are(
    other: Manifest, ready: bool
) -> None:
    status = planned(UP, other).status
    assert (status.ready_ratio, status.pending == ()) == ("2/2" if ready else "1/2", ready)


@pytest.mark.parametrize(
    ("conditions", "trainer", "runs"),
    [
        pytest.param(kubelets(True, True), RUNS, True, id="it is ready"),
        pytest.param(kubelets(False, False), UNREADY, True, id="its probe fails"),
        pytest.param([], RUNS, True, id="nothing is said of the pod"),
        pytest.param(kubelets(False, True), RUNS, False, id="its node is lost"),
        pytest.param(kubelets(False, False), ends(1), False, id="it has ended"),
    ],
)
def test_a_container_runs_whatever_its_probe_says(
    conditions: list[Manifest], trainer: Manifest, runs: bool
) -> None:
    found = read_pod(pod(1, *conditions, trainer=trainer))
    assert found is not None
    assert found.running == runs


def test_a_closed_readiness_gate_keeps_a_replica_down() -> None:
    made = pod(1, *kubelets(False, False), proxy=RUNS, trainer=RUNS, helper=ends())
    made["spec"]["readinessGates"] = [{"conditionType": "example.com/reachable"}]
    assert planned(UP, made).status.ready == 1
    made["status"]["conditions"].append(condition("example.com/reachable", holds=True))
    assert planned(UP, made).status.ready == 2


@pytest.mark.parametrize(
    ("containers", "goes"),
    [
        pytest.param({"trainer": ends(), "shipper": RUNS}, True, id="a helper runs on"),
        pytest.param(
            {"trainer": ends(), "shipper": RUNS, "proxy": RUNS}, True, id="so do both kinds"
        ),
        pytest.param(
            {"trainer": ends(), "proxy": RUNS}, False, id="its kubelet stops a native sidecar"
        ),
        pytest.param({"trainer": ends(), "shipper": ends()}, False, id="all have ended"),
        pytest.param({"trainer": ends(), "shipper": ends(1)}, False, id="a helper has failed"),
    ],
)
def test_pods_that_hold_their_devices_go_when_the_job_is_over(
    containers: dict[str, Manifest], goes: bool
) -> None:
    made = planned(*(pod(i, **containers) for i in (0, 1)))
    assert made.status.phase == "Succeeded"
    removed = [one.name for group in made.steps for one in group if isinstance(one, DeletePod)]
    assert removed == (["digits-0-0", "digits-0-1"] if goes else [])


def test_the_pod_that_has_failed_keeps_its_logs_while_its_native_sidecar_stops() -> None:
    failing = pod(1, trainer=ends(1), proxy=RUNS)
    made = planned(UP, failing, failurePolicy={"maxRestarts": 0})
    removed = [one.name for group in made.steps for one in group if isinstance(one, DeletePod)]
    assert (made.status.phase, removed) == ("Failed", ["digits-0-0"])


def test_a_pod_of_which_something_runs_has_yet_to_stop() -> None:
    stopping = pod(0, trainer=ends(1), shipper=RUNS)
    assert planned(stopping, suspend=True).status.terminating == 1
    assert planned(pod(0, trainer=ends(1)), suspend=True).status.terminating == 0


@pytest.mark.parametrize(
    ("other", "phase"),
    [
        pytest.param(
            pod(1, evicted(11), trainer=ends()),
            "Restarting",
            id="it was evicted, and ended with 0 because it was asked to: it has not finished",
        ),
        pytest.param(
            deleted(pod(1, trainer=ends()), 10),
            "Restarting",
            id="nor has one that was deleted; in one second the request comes first",
        ),
        pytest.param(
            failed(pod(1, trainer=ends()), "DeadlineExceeded"),
            "Restarting",
            id="nor one that its own deadline has stopped",
        ),
        pytest.param(
            pod(1, evicted(9), trainer=ends()),
            "Succeeded",
            id="one that had finished before its node was drained has",
        ),
        pytest.param(
            deleted(pod(1, trainer=ends()), 9),
            "Succeeded",
            id="so has one that had finished before it was deleted",
        ),
        pytest.param(
            failed(pod(1, evicted(9), trainer=ends()), "Evicted"),
            "Succeeded",
            id="and one whose sidecar filled the disk afterwards",
        ),
    ],
)
def test_a_run_that_was_stopped_is_not_one_that_has_finished(other: Manifest, phase: str) -> None:
    made = planned(pod(0, trainer=ends()), other)
    assert made.status.phase == phase


@pytest.mark.parametrize(
    ("other", "reason", "rule"),
    [
        pytest.param(
            failed(pod(1, trainer=ends(137)), "Evicted"), "Evicted", "Evicted", id="its own limit"
        ),
        pytest.param(
            failed(pod(1, trainer=ends(137)), "DeadlineExceeded"),
            "DeadlineExceeded",
            "DeadlineExceeded",
            id="its own deadline",
        ),
        pytest.param(
            failed(pod(1), "UnexpectedAdmissionError"),
            "UnexpectedAdmissionError",
            "UnexpectedAdmissionError",
            id="refused by its node",
        ),
        pytest.param(
            failed(pod(1, evicted(9), trainer=ends(137)), "Evicted"),
            "Evicted",
            "EvictionByEvictionAPI",
            id="the condition's word matches as well",
        ),
        pytest.param(
            failed(pod(1, trainer=ends(137, reason="OOMKilled")), "Evicted"),
            "Evicted",
            "OOMKilled",
            id="so does a container's that says more than Error",
        ),
        pytest.param(
            deleted(pod(1, trainer=RUNS) | {}, 3), "PodDeleted", "PodDeleted", id="a deletion"
        ),
    ],
)
def test_a_reason_of_the_pods_comes_before_its_containers(
    other: Manifest, reason: str, rule: str
) -> None:
    generic = {"action": "Restart", "reasons": ["Error"]}
    rules = [generic, {"action": "Fail", "reasons": [rule]}]
    status = planned(UP, other, failurePolicy={"rules": rules}).status
    assert [(one.reason, one.replica) for one in status.failures] == [(reason, 1)]
    assert status.phase == "Failed"


@pytest.mark.parametrize("reason", ["NodeLost", "NodeShutdown", "Preempting", "Terminated"])
def test_what_its_node_does_to_a_pod_is_not_counted(reason: str) -> None:
    status = planned(UP, failed(pod(1, trainer=ends(137)), reason, "the node goes")).status
    assert (status.phase, status.restarts) == ("Restarting", 0)
    assert status.failures[0].message == f"was stopped by the cluster ({reason}: the node goes)"


def test_the_pods_message_is_told_with_its_reason() -> None:
    status = planned(UP, failed(pod(1, trainer=ends(137)), "Evicted", "disk is full")).status
    assert status.failures[0].message == "was terminated by signal 9 (Evicted): disk is full"
    assert status.restarts == 1


@pytest.mark.parametrize("shown", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize("wanted", ["ErrImagePull", "ImagePullBackOff"])
def test_a_rule_matches_either_word_for_an_image_that_cannot_be_pulled(
    shown: str, wanted: str
) -> None:
    """The kubelet says them in turns, and which one it says when time is up is chance."""
    rules = [{"action": "Restart", "reasons": [wanted]}]
    stuck = pod(1, trainer={"state": {"waiting": {"reason": shown}}})
    job = spec(failurePolicy={"rules": rules})
    read = tuple(found for each in (UP, stuck) if (found := read_pod(each)) is not None)
    first = plan(job, Observed(status=RUNNING, pods=read), ago(60))
    second = plan(job, Observed(status=first.status, pods=read), NOW)
    assert (second.status.phase, second.status.restarts) == ("Restarting", 1)
