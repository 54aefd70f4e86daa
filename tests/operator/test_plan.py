from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api.names import ConditionType, Phase
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import format_time
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import (
    Action,
    Announce,
    CreatePod,
    CreatePodGroup,
    CreatePolicy,
    CreateService,
    DeletePod,
    DeletePodGroup,
    DeletePolicy,
    DeleteService,
)
from acceleratedjob.planner.completion import refuse
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS, KUBELET_MARGIN, Plan, Situation
from tests.operator.builders import NOW, ago, deleting, ended, pod, spec
from tests.operator.stages import (
    COMPLETE,
    FAILED,
    FAILURE,
    INVALID,
    JOB,
    LATE,
    NEVER,
    SECOND,
    SUSPENDED,
    made_from,
    seen,
)


def actions(made: Plan) -> list[Action]:
    """All actions but events."""
    return [one for group in made.steps for one in group if not isinstance(one, Announce)]


def gone(one: Pod, grace: int | None = FAILED_GANG_GRACE_SECONDS) -> DeletePod:
    return DeletePod(one.name, one.uid, grace)


GROUPS = (DeletePodGroup("volcano"), DeletePodGroup("coscheduling"))


@pytest.mark.parametrize(
    ("fields", "observed", "phase", "expected"),
    [
        pytest.param(
            {"replicas": 3},
            Observed(),
            Phase.PENDING,
            [CreateService(), CreatePod(0, 0), CreatePod(0, 1), CreatePod(0, 2)],
            id="nothing there: the Service, then pods",
        ),
        pytest.param(
            {},
            seen(pod(0), status=Status()),
            Phase.PENDING,
            [CreatePod(0, 1)],
            id="one pod was never made: make only that one",
        ),
        pytest.param(
            {},
            seen(pod(0), pod(1), service_uid=None),
            Phase.RUNNING,
            [CreateService()],
            id="the Service was deleted: make it again, leave the pods",
        ),
        pytest.param(
            {"network": {"isolate": True}, "scheduling": {"gang": "volcano"}},
            Observed(),
            Phase.PENDING,
            [
                *(CreateService(), CreatePolicy(), CreatePodGroup()),
                *(CreatePod(0, 0), CreatePod(0, 1)),
            ],
            id="isolated, in a gang: wall and group come before the pods",
        ),
        pytest.param(
            {"network": {"isolate": True}, "scheduling": {"gang": "volcano"}},
            seen(pod(0), pod(1)),
            Phase.RUNNING,
            [CreatePolicy()],
            id="the wall was taken down: make it again, leave the pods",
        ),
        pytest.param(
            {},
            seen(pod(0), pod(1), policy_uid="w"),
            Phase.RUNNING,
            [DeletePolicy("w")],
            id="a wall from when the job asked for one goes",
        ),
        pytest.param({}, seen(pod(0), pod(1)), Phase.RUNNING, [], id="all run: nothing to do"),
        pytest.param(
            {},
            seen(pod(0), pod(1, ready=False)),
            Phase.STARTING,
            [],
            id="one is not ready: starting",
        ),
        pytest.param(
            {},
            seen(pod(0), pod(1, node=None, ready=False)),
            Phase.PENDING,
            [],
            id="one has no node: pending",
        ),
        pytest.param(
            {},
            seen(ended(0), pod(1)),
            Phase.RUNNING,
            [],
            id="one replica is done: it waits for the other",
        ),
        pytest.param(
            {},
            seen(ended(0), ended(1)),
            Phase.SUCCEEDED,
            [],
            id="all are done: succeeded, and the logs stay",
        ),
        pytest.param(
            {"cleanPodPolicy": "All"},
            seen(ended(0), ended(1)),
            Phase.SUCCEEDED,
            [gone(ended(0), None), gone(ended(1), None)],
            id="all are done, cleanPodPolicy All: the pods go",
        ),
        pytest.param(
            {},
            seen(ended(1), lost=(ended(0),)),
            Phase.SUCCEEDED,
            [],
            id="a pod that was removed after its success still counts",
        ),
        pytest.param(
            {},
            seen(pod(0), ended(1, 1)),
            Phase.RESTARTING,
            [gone(pod(0)), gone(ended(1, 1))],
            id="one failed: all pods of the attempt go, soon",
        ),
        pytest.param(
            {"failurePolicy": {"maxRestarts": 0}},
            seen(pod(0), ended(1, 1)),
            Phase.FAILED,
            [gone(pod(0))],
            id="one failed once too often: the job fails, the survivor goes, the failed pod stays",
        ),
        pytest.param(
            {"failurePolicy": {"maxRestarts": 0}, "cleanPodPolicy": "None"},
            seen(pod(0), ended(1, 1)),
            Phase.FAILED,
            [],
            id="cleanPodPolicy None: survivors stay as well",
        ),
        pytest.param(
            {"failurePolicy": {"maxRestarts": 0}},
            seen(pod(0), deleting(1)),
            Phase.RESTARTING,
            [gone(pod(0), None)],
            id="a pod that someone deletes restarts the gang, all in their own grace",
        ),
        pytest.param(
            {"failurePolicy": {"maxRestarts": 0}},
            seen(pod(0)),
            Phase.RESTARTING,
            [gone(pod(0), None)],
            id="a pod that went while nobody watched restarts the gang, and does not count",
        ),
        pytest.param(
            {},
            seen(pod(1), status=Status()),
            Phase.RESTARTING,
            [gone(pod(1), None)],
            id="one went before it was counted: the last is there, so all were; none joins it",
        ),
        pytest.param(
            {},
            seen(pod(0), ended(1, 1), status=SECOND),
            Phase.RESTARTING,
            [gone(pod(0)), gone(ended(1, 1))],
            id="killed after the restart was written: the old pods still go",
        ),
        pytest.param(
            {},
            seen(deleting(0), status=LATE),
            Phase.RESTARTING,
            [],
            id="an old pod still stops: nothing is made beside it",
        ),
        pytest.param(
            {},
            seen(status=SECOND),
            Phase.RESTARTING,
            [],
            id="the old pods are gone: the backoff is waited for",
        ),
        pytest.param(
            {},
            seen(status=LATE),
            Phase.RESTARTING,
            [CreatePod(1, 0), CreatePod(1, 1)],
            id="the backoff is over: the new attempt's pods",
        ),
        pytest.param(
            {},
            seen(
                deleting(0, seconds=5),
                status=LATE,
                stopping={"u-digits-0-0": KUBELET_MARGIN + timedelta(seconds=5)},
            ),
            Phase.RESTARTING,
            [CreatePod(1, 0), CreatePod(1, 1)],
            id="an old pod's node is dead: its grace is over, so the new attempt begins",
        ),
        pytest.param(
            {},
            seen(
                replace(deleting(0), delete_by=ago(3600), deleted_at=ago(3630)),
                status=LATE,
                stopping={"u-digits-0-0": KUBELET_MARGIN},
            ),
            Phase.RESTARTING,
            [],
            id="it has had no more than that, whatever our clock says",
        ),
        pytest.param(
            {},
            seen(
                status=replace(SECOND, failures=(replace(FAILURE, time=format_time(ago(-3600))),)),
                attempt_known_for=timedelta(seconds=1),
            ),
            Phase.RESTARTING,
            [CreatePod(1, 0), CreatePod(1, 1)],
            id="a clock was ahead at the failure: the backoff is over all the same",
        ),
        pytest.param(
            {"suspend": True},
            seen(pod(0), pod(1)),
            Phase.SUSPENDED,
            [gone(pod(0), None), gone(pod(1), None)],
            id="suspended: all pods go, with their own grace",
        ),
        pytest.param(
            {"suspend": True},
            seen(pod(0), pod(1), status=SUSPENDED),
            Phase.SUSPENDED,
            [gone(pod(0), None), gone(pod(1), None)],
            id="killed while suspending: the pods still go, and the attempt is not counted twice",
        ),
        pytest.param(
            {"suspend": True},
            Observed(),
            Phase.SUSPENDED,
            [],
            id="made suspended: nothing is made",
        ),
        pytest.param(
            {},
            seen(status=SUSPENDED),
            Phase.PENDING,
            [*GROUPS, CreatePod(1, 0), CreatePod(1, 1)],
            id="resumed: the next attempt's pods, without another gang's group",
        ),
        pytest.param(
            {"scheduling": {"gang": "volcano"}},
            seen(status=SUSPENDED),
            Phase.PENDING,
            [CreatePodGroup(), GROUPS[1], CreatePod(1, 0), CreatePod(1, 1)],
            id="resumed with a gang: its group, in the place of another's",
        ),
        pytest.param(
            {"scheduling": {"gang": "volcano"}},
            seen(status=LATE),
            Phase.RESTARTING,
            [CreatePodGroup(), CreatePod(1, 0), CreatePod(1, 1)],
            id="after a failure the gang is the same",
        ),
        pytest.param(
            {},
            seen(pod(0, attempt=1), status=SUSPENDED),
            Phase.PENDING,
            [CreatePod(1, 1)],
            id="a first pod is there: what had to go before it has gone",
        ),
        pytest.param(
            {},
            seen(pod(0), ended(1, 1), status=COMPLETE),
            Phase.SUCCEEDED,
            [gone(pod(0), None)],
            id="complete stays complete, whatever pods do",
        ),
        pytest.param(
            {},
            seen(pod(0), status=FAILED),
            Phase.FAILED,
            [gone(pod(0))],
            id="failed stays failed, and killed before cleaning it still cleans",
        ),
        pytest.param(
            {},
            seen(pod(0), status=Status(), refusal=NEVER),
            Phase.FAILED,
            [gone(pod(0)), DeleteService("s")],
            id="the API server will never take its pods: nothing half-made stays",
        ),
        pytest.param(
            {"network": {"isolate": True}, "scheduling": {"gang": "coscheduling"}},
            seen(pod(0), status=Status(), refusal=NEVER, policy_uid="w"),
            Phase.FAILED,
            [DeletePodGroup("coscheduling"), gone(pod(0)), DeleteService("s"), DeletePolicy("w")],
            id="nor what kept them together and apart",
        ),
        pytest.param(
            {"cleanPodPolicy": "None", "scheduling": {"gang": "coscheduling"}},
            seen(pod(0), status=INVALID, policy_uid="w"),
            Phase.FAILED,
            [DeletePodGroup("coscheduling"), gone(pod(0)), DeleteService("s"), DeletePolicy("w")],
            id="killed before that was gone it still removes it",
        ),
        pytest.param(
            {},
            seen(
                status=Status(),
                refusal=Refusal(message="quota", final=False, retry_in=timedelta(seconds=9)),
            ),
            Phase.PENDING,
            [],
            id="a quota is used up: wait",
        ),
    ],
)
def test_the_life_of_a_job(
    fields: dict[str, object], observed: Observed, phase: Phase, expected: list[Action]
) -> None:
    job = spec(**fields)
    made = plan(job, made_from(job, observed), NOW)
    assert (made.status.phase, actions(made)) == (phase, expected)


def test_the_last_pod_of_an_attempt_is_made_when_all_others_are() -> None:
    job, (first, second, third, last) = spec(replicas=4), (CreatePod(0, i) for i in range(4))
    assert plan(job, seen(status=Status()), NOW).steps == ((first, second, third), (last,))
    assert plan(job, seen(pod(0), status=Status()), NOW).steps == ((second, third), (last,))
    assert plan(job, seen(pod(0), pod(1), pod(2), status=Status()), NOW).steps == ((last,),)


def test_an_invalid_job_fails_with_the_field() -> None:
    at = Situation(spec(), seen(pod(0)), NOW)
    made = refuse(at, InvalidSpec("spec.replicas", "must be 1"))
    told = next(c for c in made.status.conditions if c.type == ConditionType.FAILED)
    assert (told.reason, told.message) == ("InvalidSpec", "spec.replicas: must be 1")
    assert actions(made) == [gone(pod(0)), DeleteService("s")]


@pytest.mark.parametrize("status", [COMPLETE, FAILED])
def test_a_finished_job_writes_nothing_more(status: Status) -> None:
    assert plan(JOB, seen(ended(0), ended(1), status=status), NOW) == Plan(status=status)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        pytest.param(29, [], id="it has its grace"),
        pytest.param(
            31,
            [("Terminating", "pod digits-0-0 on node n0 has not stopped within its grace period")],
            id="it should have stopped by now",
        ),
    ],
)
def test_a_pod_that_holds_the_next_attempt_up_is_named(
    seconds: int, told: list[tuple[str, str]]
) -> None:
    stopping = {"u-digits-0-0": timedelta(seconds=seconds)}
    made = plan(JOB, seen(deleting(0), status=LATE, stopping=stopping), NOW)
    assert [(one.reason, one.message) for one in made.status.pending] == told
    assert actions(made) == []
