"""What the status says of the training: progress, checkpoint, goodput, verdicts and stalls."""

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.schema import MAX_COUNT
from acceleratedjob.api.status import Status, has_only_trained, is_urgent, news
from acceleratedjob.api.times import format_time
from acceleratedjob.api.training import Checkpoint, Lost, Shown, Stall
from acceleratedjob.api.training import Progress as Numbers
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.progress import (
    AttemptGoodput,
    NotProgressError,
    Progress,
    Verdict,
    read_progress,
)
from acceleratedjob.observe.termination import LastWords
from acceleratedjob.planner.actions import Announce
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import failed, progress, restarting, succeeded, suspended
from acceleratedjob.planner.state import Plan
from acceleratedjob.planner.training import VERDICTS, with_told
from tests.operator.builders import NOW, ago, ended, pod, spec
from tests.operator.stages import JOB, RUNNING, seen
from tests.operator.test_in_place import fell
from tests.operator.test_progress import fuzzed

STORED = Checkpoint(step=500, tier="storage", time="2026-01-01T11:00:00Z")
KEPT = Checkpoint(step=540, tier="memory", time="2026-01-01T11:30:00Z")
HANG = Verdict(kind="hang", text="rank 1 hangs at train.py:7", rank=1, since="2026-01-01T11:59:00Z")
SLOW = Verdict(kind="straggler", text="rank 0 is slow", rank=0)
LATER = NOW + timedelta(seconds=61)


def answer(step: int | None = 540, attempt: int | None = 0, **facts: Any) -> Progress:
    """An answer of a job of 1,080 steps of a tenth of a second."""
    usual: dict[str, Any] = {"total_steps": 1080, "step_seconds": 0.1, "eta_seconds": 4320.5}
    return Progress(attempt=attempt, step=step, **(usual | facts))


def told(progress: Progress, status: Status = RUNNING, now: datetime = NOW) -> Status:
    return with_told(status, progress, now)


def test_the_status_tells_the_progress() -> None:
    found = told(answer(epoch=3, epochs=6, samples_per_second=1240.4567, loss=0.25))
    assert found.progress is not None
    assert found.to_manifest()["progress"] == {
        "attempt": 0,
        "life": 0,
        "step": 540,
        "totalSteps": 1080,
        "percent": 50,
        "etaSeconds": 4320,
        "epoch": 3,
        "epochs": 6,
        "samplesPerSecond": 1240.46,
        "stepSeconds": 0.1,
        "loss": "0.25",
        "time": format_time(NOW),
    }
    assert found.shown == Shown(progress="50%", eta="1h12m")


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(answer(attempt=1), id="a later attempt"),
        pytest.param(answer(attempt=None), id="no attempt"),
    ],
)
def test_nothing_is_taken_of(nothing: Progress) -> None:
    assert told(nothing) == RUNNING


@pytest.mark.parametrize(
    ("before", "then", "step"),
    [
        pytest.param(answer(540), answer(541), 541, id="it goes on"),
        pytest.param(answer(540), answer(500, life=1), 500, id="a life that repeats steps"),
        pytest.param(answer(540), answer(None), 540, id="a life that has not begun"),
    ],
)
def test_within_a_life_the_step_never_falls(before: Progress, then: Progress, step: int) -> None:
    found = told(then, told(before)).progress
    assert found is not None
    assert found.step == step


def test_another_attempt_may_begin_at_an_earlier_step() -> None:
    restarted = restarting(JOB, told(answer(540)), "", counted=True, now=NOW)
    assert restarted.progress is not None
    assert (restarted.progress.step, restarted.progress.eta_seconds) == (540, None)
    found = told(answer(500, attempt=1), restarted).progress
    assert found is not None
    assert (found.attempt, found.step) == (1, 500)


@pytest.mark.parametrize(
    ("saved", "kept"),
    [
        pytest.param((KEPT, STORED), STORED, id="on storage, though one in memory is newer"),
        pytest.param((KEPT,), KEPT, id="in memory, where there is no other"),
        pytest.param((), None, id="none"),
    ],
)
def test_the_checkpoint_that_is_told_is_the_newest(
    saved: tuple[Checkpoint, ...], kept: Checkpoint | None
) -> None:
    assert told(answer(checkpoints=saved)).checkpoint == kept


def test_a_checkpoint_in_memory_ends_with_the_pods() -> None:
    status = told(answer(checkpoints=(KEPT,)))
    assert restarting(JOB, status, "", counted=True, now=NOW).checkpoint is None
    status = told(answer(checkpoints=(STORED,)))
    assert restarting(JOB, status, "", counted=True, now=NOW).checkpoint == STORED


# Goodput over attempts.


def running(status: Status, attempt: int, now: datetime, *answers: Progress) -> Status:
    """The status when all pods of an attempt are up, and after its answers."""
    pods = (pod(0, attempt), pod(1, attempt))
    for one in (None, *answers):
        status = progress(JOB, Observed(pods=pods, status=status, told=Told(progress=one)), now)
    return status


def at(seconds: float) -> datetime:
    return ago(1000 - seconds)


def test_goodput_is_over_all_attempts_and_says_what_was_lost() -> None:
    status = progress(JOB, Observed(), at(0))
    status = running(status, 0, at(100))
    part = AttemptGoodput(productive_seconds=60, lost=Lost(starting=5, checkpoint=10))
    status = running(status, 0, at(200), answer(600, goodput=part))
    assert status.goodput is not None
    assert (status.goodput.ratio, status.goodput.productive_seconds) == (0.3, 60)
    assert status.goodput.lost == Lost(pending=100, starting=5, checkpoint=10)

    status = restarting(JOB, status, "", counted=True, now=at(200))
    status = running(status, 1, at(250))
    # It goes on from step 500, so 100 steps of a tenth of a second are done again.
    part = AttemptGoodput(productive_seconds=20, lost=Lost(starting=3))
    status = running(status, 1, at(400), answer(700, attempt=1, first_step=500, goodput=part))
    assert status.goodput is not None
    assert status.goodput.lost == Lost(pending=150, starting=8, redone=10, checkpoint=10)
    assert status.goodput.productive_seconds == 60 - 10 + 20
    assert status.goodput.ratio == round(70 / 400, 4)
    assert status.shown is not None
    assert status.shown.goodput == "17%"


def test_the_time_of_a_suspension_is_lost() -> None:
    status = running(progress(JOB, Observed(), at(0)), 0, at(10))
    status = suspended(JOB, status, at(100))
    status = progress(JOB, Observed(status=status), at(400))
    assert status.goodput is not None
    assert status.goodput.lost == Lost(pending=10, stopped=300)


def test_an_answer_is_not_counted_twice() -> None:
    part = AttemptGoodput(productive_seconds=60, lost=Lost(starting=5))
    once = told(answer(600, goodput=part))
    assert told(answer(600, goodput=part), once) == once


# What pods say that stop when their attempt is over for the operator.

STOPPED_AT = "2026-01-01T11:59:50Z"


def saying(made: Any, **facts: Any) -> Any:
    """A pod that has ended, with what it says of its end."""
    return replace(made, ending=replace(made.ending, **facts))


def stopping(step: int | None, attempt: int = 0) -> Any:
    """A pod that has stopped, with a checkpoint of the step if it has one."""
    return saying(ended(1, 143, attempt, seconds_ago=10), stopped_at=step)


@pytest.mark.parametrize(
    ("status", "made", "step", "saved"),
    [
        pytest.param(RUNNING, stopping(540), 540, (540, STOPPED_AT), id="it was not asked before"),
        pytest.param(
            told(answer(520, checkpoints=(STORED,))),
            stopping(540),
            540,
            (540, STOPPED_AT),
            id="later than what was told",
        ),
        pytest.param(
            told(answer(520, checkpoints=(STORED,))),
            stopping(500),
            520,
            (500, STORED.time),
            id="what was told",
        ),
        pytest.param(
            told(answer(520, checkpoints=(STORED,))),
            stopping(None),
            520,
            (500, STORED.time),
            id="nothing",
        ),
        pytest.param(
            told(answer(520, checkpoints=(STORED,))),
            stopping(540, attempt=1),
            520,
            (500, STORED.time),
            id="a pod of another attempt",
        ),
    ],
)
def test_a_suspended_job_tells_the_checkpoint_with_which_its_pods_have_stopped(
    status: Status, made: Any, step: int, saved: tuple[int, str]
) -> None:
    before = suspended(JOB, replace(status, attempt=1), NOW)
    found = plan(spec(suspend=True), seen(made, status=before), NOW).status
    assert found.progress is not None
    assert (found.progress.attempt, found.progress.step) == (0, step)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.checkpoint.time) == saved
    assert is_urgent(before, found) == (before.checkpoint != found.checkpoint)


def test_a_job_that_is_over_is_not_changed_by_pods_that_stop() -> None:
    over = failed(JOB, replace(RUNNING, attempt=1), Reason.MAX_RESTARTS_EXCEEDED, "", NOW)
    found = plan(JOB, seen(stopping(540), status=over), NOW).status
    assert (found.progress, found.checkpoint) == (over.progress, over.checkpoint)


def test_an_attempt_that_never_told_does_not_take_over_where_another_one_began() -> None:
    heard = told(answer(520, first_step=500))
    before = suspended(JOB, replace(heard, attempt=2), NOW)
    found = plan(spec(suspend=True), seen(stopping(540, attempt=1), status=before), NOW).status
    assert found.progress is not None
    assert (found.progress.attempt, found.progress.first_step) == (1, None)


def test_an_attempt_that_has_told_is_not_changed_by_pods_of_the_last_one() -> None:
    status = told(answer(510, attempt=1, checkpoints=(STORED,)), replace(RUNNING, attempt=1))
    found = plan(JOB, seen(pod(0, 1), pod(1, 1), stopping(540), status=status), NOW).status
    assert found.progress is not None
    assert found.progress.step == 510
    assert found.checkpoint == STORED


# The last steps, of which the operator has not asked.


def finished(told: Progress | None) -> Any:
    """The pod of replica 0, which has ended well, and what it says of the end."""
    return saying(ended(0, seconds_ago=5), progress=told)


LAST = answer(1080, goodput=AttemptGoodput(productive_seconds=108), step_seconds=0.1)


def test_a_job_that_has_succeeded_is_at_its_last_step() -> None:
    heard = told(answer(1000, goodput=AttemptGoodput(productive_seconds=100)))
    before = progress(JOB, seen(finished(LAST), pod(1), status=heard), NOW)
    again = progress(JOB, seen(finished(LAST), pod(1), status=before), LATER)
    assert again.progress == before.progress  # else it was written each time
    made = plan(JOB, seen(finished(LAST), ended(1), status=before), LATER)
    found = made.status
    assert found.finished
    assert found.progress is not None
    assert (found.progress.step, found.progress.percent) == (1080, 100)
    assert found.progress.time == format_time(ago(5))
    assert found.shown is not None
    assert (found.shown.progress, found.shown.eta) == ("100%", None)
    assert found.goodput is not None
    assert found.goodput.productive_seconds == 108


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(None, id="nothing is said"),
        pytest.param(replace(LAST, attempt=1), id="another attempt is said"),
        pytest.param(answer(900), id="an earlier step is said"),
    ],
)
def test_a_job_that_has_succeeded_claims_no_step_that_it_does_not_tell(last: Any) -> None:
    made = plan(JOB, seen(finished(last), ended(1), status=told(answer(1000))), NOW)
    assert made.status.finished
    assert made.status.progress is not None
    assert (made.status.progress.step, made.status.progress.percent) == (1000, 92)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"suspend": True}, id="a suspension"),
        pytest.param({"replicas": 3}, id="a resize"),
    ],
)
def test_an_attempt_ends_with_what_it_has_told_last(change: dict[str, Any]) -> None:
    """Not with what was written last, which may be minutes older."""
    now = Told(progress=answer(700, checkpoints=(replace(STORED, step=690),)))
    pods, before = (pod(0), pod(1)), told(answer(500, checkpoints=(STORED,)))
    made = plan(spec(**{"replicas": 2, **change}), seen(*pods, status=before, told=now), NOW)
    assert made.status.attempt == 1
    assert made.status.progress is not None
    assert (made.status.progress.attempt, made.status.progress.step) == (0, 700)
    assert made.status.checkpoint is not None
    assert made.status.checkpoint.step == 690


def test_an_attempt_that_fails_counts_what_replica_0_says_at_its_end() -> None:
    said = replace(LAST, life=1, failures=(fell(0),), first_step=0)
    over = saying(ended(0, 1), progress=said, last_words=LastWords(exception="E", step=1080))
    status = plan(JOB, seen(over, pod(1), status=told(answer(1000))), NOW).status
    assert (status.attempt, status.restarts_in_place, len(status.failures)) == (1, 1, 2)
    assert status.goodput is not None
    assert status.goodput.earlier.productive_seconds == 108


def test_only_replica_0_speaks_for_the_job() -> None:
    other = saying(ended(1), progress=LAST)
    found = progress(JOB, seen(pod(0), other, status=told(answer(1000))), NOW).progress
    assert found is not None
    assert found.step == 1000


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        pytest.param({"last_words": LastWords(exception="E", step=1040)}, 1040, id="an exception"),
        pytest.param({"stopped_at": 1040}, 1040, id="a stop"),
        pytest.param({"stopped_at": 900}, 1000, id="not an earlier checkpoint"),
    ],
)
def test_an_attempt_that_ends_says_at_which_step(facts: dict[str, Any], step: int) -> None:
    over = saying(ended(1, 1), **facts)
    made = plan(JOB, seen(pod(0), over, status=told(answer(1000))), NOW)
    assert made.status.attempt == 1
    assert made.status.progress is not None
    assert (made.status.progress.attempt, made.status.progress.step) == (0, step)
    assert made.status.progress.percent == 100 * step // 1080


# Verdicts.


def planned(status: Status, *verdicts: Verdict, now: datetime = NOW, **facts: Any) -> Plan:
    heard = Told(progress=answer(verdicts=verdicts), **facts)
    return plan(JOB, seen(pod(0), pod(1), status=status, told=heard), now)


def events(made: Plan) -> list[Announce]:
    return [one for step in made.steps for one in step if isinstance(one, Announce)]


def test_a_verdict_is_a_condition_and_one_event() -> None:
    first = planned(RUNNING, HANG, SLOW)
    assert events(first) == [
        Announce(Reason.HANG, HANG.text, warning=True),
        Announce(Reason.STRAGGLER, SLOW.text, warning=True),
    ]
    found = first.status.condition(ConditionType.HANGING)
    assert found is not None
    assert (found.status, found.reason, found.message) == ("True", "Hang", HANG.text)
    again = planned(first.status, replace(HANG, text="still"), SLOW)
    assert events(again) == []
    over = planned(again.status, SLOW)
    found = over.status.condition(ConditionType.HANGING)
    assert found is not None
    assert (found.status, found.reason) == ("False", "Recovered")
    assert events(over) == []


def test_a_verdict_that_comes_and_goes_is_one_event_in_a_while() -> None:
    over = planned(planned(RUNNING, HANG).status)
    assert events(planned(over.status, HANG)) == []
    assert len(events(planned(over.status, HANG, now=LATER))) == 1


def test_a_job_without_verdicts_has_no_condition_about_them() -> None:
    assert planned(RUNNING).status.conditions == RUNNING.conditions


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda s: restarting(JOB, s, "", counted=True, now=NOW), id="another attempt"),
        pytest.param(lambda s: succeeded(JOB, s, NOW), id="success"),
    ],
)
def test_a_verdict_ends_with_its_attempt(end: Any) -> None:
    status = end(planned(RUNNING, HANG).status)
    assert not status.holds(ConditionType.HANGING)
    found = status.condition(ConditionType.HANGING)
    assert found.reason == "AttemptEnded"


def test_what_the_training_says_is_written_in_turn() -> None:
    new = planned(RUNNING, HANG).status
    assert has_only_trained(RUNNING, new)
    assert not is_urgent(RUNNING, new)
    assert [one.type for one in news(RUNNING, new)] == ["Hanging"]
    assert not has_only_trained(RUNNING, replace(new, ready=1))


# Stalls.


LIMITED = spec(stallDeadlineSeconds=60)
READY = progress(LIMITED, Observed(pods=(pod(0), pod(1))), ago(600))
MINUTE = timedelta(seconds=60)


def stalled(heard: Told, *pods: Any, status: Status = READY) -> Plan:
    return plan(
        LIMITED, seen(*(pods or (pod(0), pod(1, node="n1"))), status=status, told=heard), NOW
    )


def test_a_training_that_hangs_too_long_ends_with_the_verdict() -> None:
    made = stalled(Told(progress=answer(verdicts=(HANG,)), hangs_for=MINUTE))
    (failure,) = made.status.failures
    assert made.status.attempt == 1
    assert made.status.restarts == 1
    assert (failure.reason, failure.rank, failure.replica, failure.node) == ("Stalled", 1, 1, "n1")
    assert failure.since == HANG.since
    assert failure.message == "has stalled: rank 1 hangs at train.py:7"
    assert "Replica 1 (pod digits-0-1 on node n1) has stalled" in events(made)[-1].message


def test_silence_of_the_port_ends_the_attempt_too() -> None:
    made = stalled(Told(silent_for=MINUTE))
    (failure,) = made.status.failures
    assert (failure.reason, failure.replica) == ("Stalled", 0)
    assert failure.since == format_time(NOW - MINUTE)
    assert "progress port (29400) for 60 s" in failure.message


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param(Told(progress=answer(verdicts=(HANG,)), hangs_for=MINUTE), id="a hang"),
        pytest.param(Told(silent_for=MINUTE), id="silence"),
    ],
)
def test_a_readiness_probe_that_fails_during_a_stall_does_not_hide_it(heard: Told) -> None:
    unready = [pod(index, ready=False, running=True) for index in range(2)]
    (failure,) = stalled(heard, *unready).status.failures
    assert failure.reason == "Stalled"


LESS = timedelta(seconds=59)


@pytest.mark.parametrize(
    ("heard", "pods"),
    [
        pytest.param(Told(progress=answer(verdicts=(HANG,)), hangs_for=LESS), (), id="not so long"),
        pytest.param(Told(silent_for=LESS), (), id="silent for less"),
        pytest.param(Told(progress=answer(verdicts=(SLOW,)), hangs_for=MINUTE), (), id="no hang"),
        pytest.param(Told(silent_for=MINUTE), (pod(0), pod(1, ready=False)), id="one runs not"),
        pytest.param(Told(silent_for=MINUTE), (ended(0), pod(1)), id="rank 0 is done"),
    ],
)
def test_an_attempt_goes_on(heard: Told, pods: tuple[Any, ...]) -> None:
    assert stalled(heard, *pods).status.failures == ()


STUCK = answer(540, verdicts=(HANG,))
STALL = Stall(reason="Hang", since=format_time(NOW - MINUTE), life=0, step=540)
QUIET = Stall(reason="Silence", since=format_time(NOW - MINUTE))
UP = format_time(ago(600))


@pytest.mark.parametrize(
    ("before", "heard", "after"),
    [
        pytest.param(None, Told(progress=STUCK, hangs_for=MINUTE), STALL, id="it hangs"),
        pytest.param(None, Told(silent_for=MINUTE), QUIET, id="it is silent"),
        pytest.param(
            None,
            Told(silent_for=timedelta(hours=1)),
            replace(QUIET, since=UP),
            id="silence before all were up does not count",
        ),
        pytest.param(STALL, Told(progress=STUCK), STALL, id="it still hangs"),
        pytest.param(QUIET, Told(silent_for=LESS), QUIET, id="it is still silent"),
        pytest.param(STALL, Told(), STALL, id="nothing was heard yet: another operator asks now"),
        pytest.param(STALL, Told(progress=answer(540)), None, id="it does not hang any more"),
        pytest.param(QUIET, Told(progress=answer(540)), None, id="it answers again"),
        pytest.param(STALL, Told(silent_for=MINUTE), QUIET, id="it hung, and is silent now"),
        pytest.param(
            STALL,
            Told(progress=replace(STUCK, step=541)),
            replace(STALL, step=541, since=format_time(NOW)),
            id="it has gone on, and hangs again",
        ),
        pytest.param(
            STALL,
            Told(progress=replace(STUCK, life=1)),
            replace(STALL, life=1, since=format_time(NOW)),
            id="another life hangs at the same step",
        ),
        pytest.param(
            replace(STALL, since=format_time(LATER)),
            Told(progress=STUCK),
            replace(STALL, since=format_time(NOW)),
            id="a time in the future counts from now",
        ),
    ],
)
def test_the_status_has_the_clock_of_a_stall(
    before: Stall | None, heard: Told, after: Stall | None
) -> None:
    known = replace(READY, stall=before)
    found = progress(LIMITED, seen(pod(0), pod(1), status=known, told=heard), NOW)
    assert found.stall == after
    assert has_only_trained(known, found) == (found.life == known.life)
    assert progress(JOB, seen(pod(0), pod(1), status=known, told=heard), NOW).stall is None


@pytest.mark.parametrize(
    ("before", "heard", "ends"),
    [
        pytest.param(STALL, Told(progress=STUCK), True, id="it hung before and still does"),
        pytest.param(STALL, Told(progress=replace(STUCK, life=1)), False, id="in another life"),
        pytest.param(STALL, Told(), False, id="nobody has answered to this operator"),
        pytest.param(QUIET, Told(silent_for=LESS), True, id="it was silent before and still is"),
        pytest.param(QUIET, Told(), False, id="this operator has not heard silence yet"),
    ],
)
def test_a_stall_goes_on_under_another_operator(before: Stall, heard: Told, ends: bool) -> None:
    made = stalled(heard, status=replace(READY, stall=before))
    assert bool(made.status.failures) is ends
    assert (made.status.stall is None) is ends
    assert all(one.reason == "Stalled" for one in made.status.failures)


def test_a_rule_may_name_the_reason() -> None:
    rules = [{"action": "Fail", "reasons": ["Stalled"]}]
    job = spec(stallDeadlineSeconds=60, failurePolicy={"rules": rules})
    ready = progress(job, Observed(pods=(pod(0), pod(1))), ago(600))
    made = plan(job, seen(pod(0), pod(1), status=ready, told=Told(silent_for=MINUTE)), NOW)
    failed = made.status.condition(ConditionType.FAILED)
    assert failed is not None
    assert failed.reason == "FailurePolicy"


def test_without_a_deadline_nothing_ends() -> None:
    assert planned(RUNNING, HANG, hangs_for=timedelta(days=1)).status.failures == ()


@pytest.mark.parametrize("rank", [None, 2, MAX_COUNT])
def test_a_rank_that_there_is_not_is_not_named(rank: int | None) -> None:
    wrong = replace(HANG, rank=rank, replica=7)
    (failure,) = stalled(Told(progress=answer(verdicts=(wrong,)), hangs_for=MINUTE)).status.failures
    assert (failure.rank, failure.replica) == (None, 0)


# Anything.


def says(status: Status, answer: bytes, before: Status) -> None:
    """The numbers of a status are those of the answer, read in another way, or the known ones."""
    given, found = json.loads(answer), status.progress
    if given.get("step") is None:
        assert found == before.progress
        return
    assert found is not None
    known = before.progress or Numbers()
    step = max(given["step"], (known.step or 0) if known.life == found.life else 0)
    assert found.step == step
    total = given.get("totalSteps")
    assert (found.total_steps, found.epochs) == (total, given.get("epochs"))
    assert found.percent == (min(100, 100 * step // total) if total else None)
    assert (found.loss is None) == (given.get("loss") is None)
    told = {one["kind"]: one.get("text") or "" for one in reversed(given.get("verdicts") or [])}
    for kind, (type_, _) in VERDICTS.items():
        assert status.holds(type_) == (kind in told)
    saved = [given.get("checkpoint"), *(given.get("checkpoints") or [])]
    steps = [one["step"] for one in saved if one is not None]
    kept = None if before.checkpoint is None else before.checkpoint.step
    assert status.checkpoint is None or status.checkpoint.step in (*steps, kept)


def test_ten_thousand_answers_leave_the_status_true() -> None:
    """It can be stored, read again, and no life goes back a step or takes another attempt's."""
    luck, status, furthest, taken = random.Random(11), replace(RUNNING, attempt=2), (0, 0), 0
    for _ in range(10_000):
        answer = fuzzed(luck)
        try:
            found = read_progress(answer)
        except NotProgressError:
            continue
        new = with_told(status, found, NOW)
        text = json.dumps(new.to_manifest(), allow_nan=False)
        assert len(text) < 20_000
        assert Status.from_manifest({"status": json.loads(text)}) == new
        assert new == status or found.attempt == 2
        if found.attempt == 2 and (status.progress is None or found.life >= status.progress.life):
            says(new, answer, status)
        reached = new.progress or Numbers()
        place = (reached.life, reached.step or 0)
        assert place >= furthest
        taken, furthest = taken + (new != status), place
        status = replace(new, progress=None) if luck.random() < 0.2 else new
        furthest = (0, 0) if status.progress is None else furthest
    assert taken > 1_000


SECOND = replace(RUNNING, attempt=2)


@pytest.mark.parametrize(
    ("before", "facts", "said"),
    [
        pytest.param(
            SECOND, {"first_step": 1200}, "Attempt 2 goes on from step 1200", id="from a checkpoint"
        ),
        pytest.param(
            SECOND,
            {"first_step": 0},
            "Attempt 2 begins at step 0: no checkpoint was found",
            id="without one",
        ),
        pytest.param(SECOND, {}, None, id="an old runtime does not say it"),
        pytest.param(
            replace(SECOND, progress=Numbers(attempt=2, first_step=1200, step=1201)),
            {"first_step": 1300},
            None,
            id="it was said before; a restart in place is no attempt",
        ),
        pytest.param(
            replace(SECOND, progress=Numbers(attempt=1, first_step=600, step=900)),
            {"first_step": 800},
            "Attempt 2 goes on from step 800",
            id="the attempt before said another",
        ),
    ],
)
def test_a_later_attempt_says_once_from_which_step_it_goes_on(
    before: Status, facts: dict[str, Any], said: str | None
) -> None:
    said_now = Told(progress=answer(attempt=2, **facts))
    pods = (pod(0, 2), pod(1, 2))
    made = plan(spec(), Observed(status=before, pods=pods, told=said_now, service_uid="s"), NOW)
    events = [one for step in made.steps for one in step if isinstance(one, Announce)]
    assert [one.message for one in events if one.reason == "WentOn"] == [said] * (said is not None)
    again = plan(
        spec(), Observed(status=made.status, pods=pods, told=said_now, service_uid="s"), NOW
    )
    assert not again.steps


SIZES = st.sampled_from([0.0, 5e-324, 1.0, 1e300, 1e308])


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.sampled_from([0, 2**31, MAX_COUNT]))
def test_a_status_can_be_read_again_however_large_the_numbers_are(
    seconds: float, productive: float, eta: float, steps: int
) -> None:
    large = answer(
        steps,
        total_steps=steps,
        step_seconds=seconds,
        eta_seconds=eta,
        checkpoint=replace(STORED, step=steps),
        goodput=AttemptGoodput(productive_seconds=productive, lost=Lost(redone=productive)),
    )
    heard = Told(progress=large)
    for pods in ((pod(0), pod(1)), (pod(0), ended(1, 1))):  # it goes on, or ends
        new = plan(JOB, seen(*pods, told=heard), NOW).status
        text = json.dumps(new.to_manifest(), allow_nan=False)
        assert Status.from_manifest({"status": json.loads(text)}) == new


@pytest.mark.parametrize("seconds", [0, 5, 300], ids=str)
def test_numbers_have_the_time_at_which_they_were_read(seconds: int) -> None:
    heard = Told(progress=answer(540), age=timedelta(seconds=seconds))
    found = progress(JOB, seen(pod(0), pod(1), told=heard), NOW).progress
    assert found is not None
    assert found.time == format_time(ago(seconds))


def test_an_answer_that_is_read_once_is_written_once() -> None:
    """The operator looks at it again and again, by clocks that are rounded."""
    heard = Told(progress=answer(540), age=timedelta(seconds=10))
    first = progress(JOB, seen(pod(0), pod(1), told=heard), NOW)
    again = replace(heard, age=timedelta(seconds=29.2))
    later = progress(
        JOB, seen(pod(0), pod(1), status=first, told=again), NOW + timedelta(seconds=20)
    )
    assert later == first
