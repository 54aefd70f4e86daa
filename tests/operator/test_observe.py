from datetime import UTC, datetime
from typing import Any

import pytest

from acceleratedjob.api.names import EPOCH
from acceleratedjob.api.status import Status, shortened
from acceleratedjob.observe.endings import Ending
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import read_pod
from acceleratedjob.observe.termination import LastWords
from acceleratedjob.planner.failure_policy import decide, failure
from acceleratedjob.planner.failures import causes
from tests.operator.builders import spec

AT = "2026-01-01T12:00:00Z"
TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)


def raw(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "digits-0-1",
            "uid": "u",
            "annotations": {"kubectl.kubernetes.io/default-container": "trainer"},
            **metadata,
        },
        "spec": {"nodeName": "n0"},
        "status": status,
    }


def container(name: str = "trainer", **state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "state": state}]}


def terminated(code: int, **more: Any) -> dict[str, Any]:
    return {"exitCode": code, "finishedAt": AT, **more}


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        pytest.param({}, None, id="new"),
        pytest.param({"phase": "Running"} | container(running={}), None, id="runs"),
        pytest.param(
            container(terminated=terminated(0, reason="Completed")),
            Ending(exit_code=0, reason="Completed", message="", time=TIME),
            id="done, whatever its sidecars do",
        ),
        pytest.param(
            container(terminated=terminated(137, reason="OOMKilled", message="m")),
            Ending(exit_code=137, reason="OOMKilled", message="m", time=TIME),
            id="killed for its memory",
        ),
        pytest.param(
            container("proxy", terminated=terminated(1)),
            None,
            id="a sidecar's end is not the pod's",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "disk", "startTime": AT},
            Ending(exit_code=None, reason="Evicted", message="disk", time=TIME),
            id="evicted: no container tells",
        ),
        pytest.param(
            {
                "phase": "Failed",
                "startTime": AT,
                "initContainerStatuses": [
                    {"name": "data", "state": {"terminated": terminated(0)}},
                    {"name": "cache", "state": {"terminated": terminated(4, message="full\n")}},
                ],
            }
            | container(waiting={"reason": "PodInitializing"}),
            Ending(
                exit_code=None,
                reason="ContainerFailed",
                message="init container cache exited with code 4: full",
                time=TIME,
            ),
            id="an init container has failed, and is named",
        ),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": AT}]}
            | container(terminated={"exitCode": 1}),
            Ending(exit_code=1, reason="ContainerFailed", message="", time=TIME),
            id="nobody has said when",
        ),
        pytest.param(
            container(terminated=terminated(1, message='{"exception": "KeyError", "rank": 3}')),
            Ending(
                exit_code=1,
                reason="ContainerFailed",
                message='{"exception": "KeyError", "rank": 3}',
                time=TIME,
                last_words=LastWords(exception="KeyError", rank=3),
            ),
            id="an exception, as the runtime tells it",
        ),
        pytest.param(
            container(terminated=terminated(0, message='{"stopped": {}}')),
            Ending(
                exit_code=143,
                reason="ContainerFailed",
                message="",
                time=TIME,
                says_stopped=True,
            ),
            id="a script that was told to stop, and ends well, is not done",
        ),
        pytest.param(
            container(terminated=terminated(3, message='{"stopped": {"step": 7}}')),
            Ending(
                exit_code=3,
                reason="ContainerFailed",
                message="",
                time=TIME,
                says_stopped=True,
                stopped_at=7,
            ),
            id="an error after a stop stays one",
        ),
    ],
)
def test_how_a_pod_has_ended(status: dict[str, Any], ending: Ending | None) -> None:
    seen = read_pod(raw(status))
    assert seen is not None
    assert seen.ending == ending


LOG = "".join(f"step {i}: loss 0.12345 lr 0.001\n" for i in range(100))


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(
            container(terminated=terminated(3, message=f"{LOG}ValueError: the cause\n")),
            id="a training container's",
        ),
        pytest.param(
            {
                "phase": "Failed",
                "initContainerStatuses": [
                    {
                        "name": "a",
                        "state": {
                            "terminated": {"exitCode": 1, "message": f"{LOG}ValueError: the cause"}
                        },
                    }
                ],
            },
            id="an init container's",
        ),
    ],
)
def test_of_a_long_log_the_end_is_kept_where_the_exception_is(status: dict[str, Any]) -> None:
    seen = read_pod(raw(status))
    assert seen is not None
    (cause,) = causes(Observed(pods=(seen,)), TIME)
    told = failure(cause, 1)
    assert told.message.startswith(("exited with code 3: …", "failed: init container a exited"))
    assert told.message.endswith("ValueError: the cause")
    decided = decide(cause, Status(), spec())
    assert "ValueError: the cause" in shortened(decided.message)


@pytest.mark.parametrize(
    ("code", "signal"),
    [(0, None), (1, None), (127, None), (128, None), (137, 9), (143, 15), (255, None)],
)
def test_the_signal_in_an_exit_code(code: int, signal: int | None) -> None:
    assert Ending(exit_code=code, reason="", message="", time=TIME).signal == signal


def test_a_deletion_has_a_beginning_and_an_end() -> None:
    seen = read_pod(
        raw({}, deletionTimestamp="2026-01-01T12:00:30Z", deletionGracePeriodSeconds=30)
    )
    assert seen is not None
    assert seen.deleted_at == TIME


@pytest.mark.parametrize("grace", [2**31, 10**11, 2**63 - 1])
def test_a_grace_without_end_is_read_as_a_long_one(grace: int) -> None:
    """A pod that claims a job may ask for any; it must not end the watch of all pods."""
    seen = read_pod(raw({}, deletionTimestamp=AT, deletionGracePeriodSeconds=grace))
    assert seen is not None
    assert seen.deleted_at is not None
    assert seen.deleted_at.year < 1970


def test_an_end_without_a_time_is_read() -> None:
    seen = read_pod(raw(container(terminated={"exitCode": 1, "finishedAt": None})))
    assert seen is not None
    assert seen.ending is not None
    assert (seen.ending.exit_code, seen.ending.time) == (1, EPOCH)


@pytest.mark.parametrize(
    "name", ["digits", "digits-0", "digits-0-1x", "digits-0-9999999999", "digits-9999999999-0"]
)
def test_a_pod_of_another_name_is_not_one_of_ours(name: str) -> None:
    """Nor one whose numbers are larger than a status can hold."""
    assert read_pod(raw({}) | {"metadata": {"name": name, "uid": "u"}}) is None
