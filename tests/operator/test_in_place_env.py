"""What a rule of the failure policy is about is not restarted in place."""

from typing import Any

import pytest

from acceleratedjob.manifests.in_place import in_place_env
from tests.operator.builders import spec

RESTARTS = "ACCELERATEDJOB_IN_PLACE_RESTARTS"
CODES = "ACCELERATEDJOB_FAIL_EXIT_CODES"
STALL = "ACCELERATEDJOB_STALL_DEADLINE_SECONDS"
OFF, USUAL = {RESTARTS: "0"}, {RESTARTS: "3"}


def fail(**matches: Any) -> dict[str, Any]:
    return {"action": "Fail", **matches}


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        pytest.param([], USUAL, id="no rule"),
        pytest.param([fail(exitCodes=[42, 7])], USUAL | {CODES: "7,42"}, id="exit codes"),
        pytest.param([fail(signals=[9])], USUAL | {CODES: "137"}, id="a signal is a code"),
        pytest.param(
            [fail(exitCodes=[42], signals=[11])], USUAL | {CODES: "42,139"}, id="both, to be safe"
        ),
        pytest.param(
            [fail(exitCodes=[42], reasons=["Error"])],
            USUAL | {CODES: "42"},
            id="an exit code and the reason that every exit has",
        ),
        pytest.param(
            [{"action": "Restart", "exitCodes": [42]}, fail(exitCodes=[42, 43])],
            USUAL | {CODES: "42,43"},
            id="a rule before it decides as well",
        ),
        pytest.param(
            [{"action": "RestartFree", "signals": [15]}],
            USUAL | {CODES: "143"},
            id="a rule that does not fail the job decides as well",
        ),
        pytest.param([fail(replicaIndexes=[0])], OFF, id="any failure of a replica"),
        pytest.param([fail(reasons=["Error"])], OFF, id="the reason that every exit has"),
        pytest.param(
            [fail(reasons=["OOMKilled", "Error"])], OFF, id="one of the reasons is that of an exit"
        ),
        pytest.param([fail(reasons=["ContainerFailed"])], OFF, id="a container without a reason"),
        pytest.param([fail(podConditions=["GpuLost"])], OFF, id="a condition that a pod may have"),
        pytest.param(
            [{"action": "Restart", "replicaIndexes": [0]}], USUAL, id="only Fail forbids all"
        ),
        pytest.param([fail(reasons=["OOMKilled"])], USUAL, id="the memory limit is recognized"),
        pytest.param(
            [fail(reasons=["OOMKilled"], exitCodes=[137])],
            USUAL,
            id="and its exit code alone is not",
        ),
        pytest.param([fail(reasons=["Evicted", "PodDeleted"])], USUAL, id="a pod that is lost"),
        pytest.param([fail(podConditions=["DisruptionTarget"])], USUAL, id="a drain"),
        pytest.param(
            [fail(podConditions=["DisruptionTarget", "GpuLost"])], OFF, id="a drain or another one"
        ),
    ],
)
def test_what_a_rule_is_about_is_not_restarted_in_place(
    rules: list[dict[str, Any]], found: dict[str, str]
) -> None:
    assert in_place_env(spec(failurePolicy={"rules": rules})) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        pytest.param({"failurePolicy": {"inPlaceRestarts": 0}}, OFF, id="turned off"),
        pytest.param({"failurePolicy": {"inPlaceRestarts": 7}}, {RESTARTS: "7"}, id="more"),
        pytest.param({"stallDeadlineSeconds": 60}, USUAL | {STALL: "60"}, id="hangs as well"),
        pytest.param(
            {
                "stallDeadlineSeconds": 60,
                "failurePolicy": {"rules": [fail(reasons=["Stalled"])]},
            },
            USUAL,
            id="a rule decides about hangs",
        ),
        pytest.param(
            {"failurePolicy": {"inPlaceRestarts": 0, "rules": [fail(exitCodes=[42])]}},
            OFF,
            id="no codes if there is nothing to forbid",
        ),
    ],
)
def test_how_often_and_whether_a_hang_ends_a_life(
    fields: dict[str, Any], found: dict[str, str]
) -> None:
    assert in_place_env(spec(**fields)) == found
