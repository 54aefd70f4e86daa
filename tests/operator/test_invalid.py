"""A spec that this operator refuses, and another one accepted: its attempt is left as it is."""

from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.bounds import UNREADABLE
from acceleratedjob.api.names import ConditionType, Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.planner.actions import (
    Action,
    Announce,
    CreateService,
    DeleteJob,
    DeletePod,
    DeleteService,
)
from acceleratedjob.planner.planner import decide, plan
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS, Plan
from tests.operator.builders import NOW, ago, ended, job, pod, spec
from tests.operator.stages import NEVER, RUNNING, SECOND, SUSPENDED, seen
from tests.operator.test_kstatus import kstatus

HASHED = replace(RUNNING, spec_hash="its own")
WRONG = {"sharedMemory": {"sizeLimit": "much"}}
WHY = "spec.sharedMemory.sizeLimit: must be a size like 8Gi, got 'much'"
GOES_ON = f"{WHY}; attempt 0 continues unchanged, but no new attempt can start"
STAYS = f"{WHY}; the job remains suspended, and cannot be resumed"
BOTH = (pod(0), pod(1))


def decided(observed: Observed, **fields: Any) -> Plan:
    return decide(job(**(WRONG | fields)), observed, NOW)[1]


def acts(made: Plan) -> list[Action]:
    """What is done, but for what is told."""
    return [one for group in made.steps for one in group if not isinstance(one, Announce)]


def gone(index: int, grace: int | None, attempt: int = 0) -> DeletePod:
    name = f"digits-{attempt}-{index}"
    return DeletePod(name, f"u-{name}", grace)


def says(status: Status, type_: ConditionType) -> str | None:
    """The message of a condition that holds."""
    found = status.condition(type_)
    return found.message if found and found.status == "True" else None


@pytest.mark.parametrize(
    ("observed", "fields", "phase", "expected", "stalled", "failed"),
    [
        pytest.param(
            seen(*BOTH), {}, "Running", [], GOES_ON, None, id="its attempt runs: it goes on"
        ),
        pytest.param(
            seen(ended(0), pod(1)), {}, "Running", [], GOES_ON, None, id="one is done: it goes on"
        ),
        pytest.param(
            seen(*BOTH, pod(0, attempt=7)),
            {},
            "Running",
            [gone(0, None, attempt=7)],
            GOES_ON,
            None,
            id="what is no replica goes",
        ),
        pytest.param(
            seen(ended(0), ended(1)), {}, "Succeeded", [], None, None, id="all are done: it is over"
        ),
        pytest.param(
            seen(pod(0), ended(1, 1)),
            {},
            "Failed",
            [gone(0, FAILED_GANG_GRACE_SECONDS)],
            None,
            "Replica 1 (pod digits-0-1 on node n0) exited with code 1; "
            f"no new attempt can start: {WHY}",
            id="one fails: no other attempt, and its log stays",
        ),
        pytest.param(
            seen(pod(0), ended(1, 1)),
            {"failurePolicy": {"maxRestarts": 0}},
            "Failed",
            [gone(0, FAILED_GANG_GRACE_SECONDS)],
            None,
            "Replica 1 (pod digits-0-1 on node n0) exited with code 1; maxRestarts is 0",
            id="one fails, and the job would be over all the same",
        ),
        pytest.param(
            seen(pod(0)),
            {},
            "Failed",
            [gone(0, None)],
            None,
            f"Replica 1 (pod digits-0-1) was deleted, but not by this operator; "
            f"no new attempt can start: {WHY}",
            id="one has vanished: no other attempt",
        ),
        pytest.param(
            seen(*BOTH),
            {"activeDeadlineSeconds": 60},
            "Failed",
            [gone(0, None), gone(1, None)],
            None,
            "The job did not finish within activeDeadlineSeconds (60) of its start",
            id="its deadline is over",
        ),
        pytest.param(
            seen(*BOTH),
            {"suspend": True},
            "Suspended",
            [gone(0, None), gone(1, None)],
            STAYS,
            None,
            id="its author suspends it: no pods, and it can be corrected",
        ),
        pytest.param(
            seen(status=SUSPENDED), {"suspend": True}, "Suspended", [], STAYS, None, id="suspended"
        ),
        pytest.param(
            seen(status=SUSPENDED), {}, "Failed", [DeleteService("s")], None, WHY, id="resumed"
        ),
        pytest.param(
            seen(status=SECOND),
            {},
            "Failed",
            [DeleteService("s")],
            None,
            WHY,
            id="an attempt begins",
        ),
        pytest.param(Observed(), {}, "Failed", [], None, WHY, id="it never began"),
        pytest.param(
            seen(pod(0), status=replace(RUNNING, replicas=1, created=1)),
            {},
            "Failed",
            [gone(0, FAILED_GANG_GRACE_SECONDS), DeleteService("s")],
            None,
            WHY,
            id="not all pods were made",
        ),
        pytest.param(
            Observed(), {"suspend": True}, "Failed", [], None, WHY, id="it was made suspended"
        ),
    ],
)
def test_what_happens_to_a_job_whose_spec_is_refused(
    observed: Observed,
    fields: Manifest,
    phase: str,
    expected: list[Action],
    stalled: str | None,
    failed: str | None,
) -> None:
    made = decided(observed, **fields)
    status = made.status
    assert (status.phase, acts(made)) == (phase, expected)
    assert says(status, ConditionType.FAILED) == failed
    assert says(status, ConditionType.STALLED) == (stalled or failed)
    again = decided(replace(observed, status=status), **fields)
    assert (again.status, acts(again)) == (status, expected)
    assert [one for group in again.steps for one in group if isinstance(one, Announce)] == []


def test_what_its_attempt_is_made_from_stays_in_the_status() -> None:
    """An operator that accepts the spec goes on with the attempt."""
    status = decided(seen(*BOTH, status=HASHED)).status
    kept = ("spec_hash", "size", "processes_per_replica", "world_size", "attempt")
    assert [getattr(status, name) for name in kept] == [getattr(HASHED, name) for name in kept]
    assert status.observed_generation == 1
    assert kstatus(job() | {"status": status.to_manifest()}) == "Failed"
    known = replace(status, spec_hash=spec().fingerprint)
    back = plan(spec(), seen(*BOTH, status=known), NOW)
    assert (back.status.phase, back.steps) == ("Running", ())
    assert kstatus(job() | {"status": back.status.to_manifest()}) == "Current"


def test_a_job_that_was_refused_for_a_time_and_succeeds_is_as_it_should_be() -> None:
    status = decided(seen(*BOTH)).status
    made = decided(seen(ended(0), ended(1), status=status))
    assert kstatus(job() | {"status": made.status.to_manifest()}) == "Current"


def test_it_is_told_once() -> None:
    made = decided(seen(*BOTH))
    events = [one for group in made.steps for one in group]
    assert events == [Announce("InvalidSpec", GOES_ON, warning=True)]
    assert decided(seen(*BOTH, status=made.status)).steps == ()


@pytest.mark.parametrize(
    "unread",
    [
        pytest.param({"spec": {"template": 1, "ttlSecondsAfterFinished": 0}}, id="its template"),
        pytest.param({"spec": 7}, id="all of its spec"),
        pytest.param({UNREADABLE: "must be smaller", "spec": None}, id="what is beyond the bounds"),
    ],
)
def test_whatever_cannot_be_read_leaves_the_attempt_alone(unread: Manifest) -> None:
    broken = job() | unread
    made = decide(broken, seen(*BOTH), NOW)[1]
    assert (made.status.phase, acts(made)) == ("Running", [])
    over = decide(broken, seen(ended(0), ended(1)), ago(60))[1].status
    assert over.phase == "Succeeded"
    deletions = acts(decide(broken, seen(status=over), NOW)[1])
    assert deletions == ([DeleteJob()] if "ttlSecondsAfterFinished" in str(unread) else [])


def test_a_service_that_is_refused_when_it_is_made_anew_leaves_the_attempt_alone() -> None:
    """It is tried again; an attempt that begins later is over by that, as its first would be."""
    made = plan(spec(), replace(seen(*BOTH, refusal=NEVER), service_uid=None), NOW)
    assert (made.status.phase, acts(made)) == ("Running", [CreateService()])
    (told,) = made.status.pending
    assert (told.reason, told.message) == ("Refused", "no")
    later = plan(spec(), seen(status=SECOND, refusal=Refusal(message="no", final=True)), NOW)
    assert later.status.phase == "Failed"
