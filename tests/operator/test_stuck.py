"""Attempts that end at the same step in the same way end the job."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceleratedjob.api.names import ConditionType
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.training import Checkpoint
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.progress import Progress
from acceleratedjob.observe.termination import LastWords
from acceleratedjob.planner.failures import causes
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.progress import End, has_newer_checkpoint, is_stuck
from tests.operator.builders import NOW, ended, pod, spec

ERROR = "ValueError"
MANY = {"maxRestarts": 100}


def died(attempt: int, step: int | None = 40, exception: str | None = ERROR) -> Failure:
    return Failure(
        attempt=attempt,
        replica=0,
        pod=f"digits-{attempt}-0",
        reason="Error",
        time="2026-01-01T11:00:00Z",
        step=step,
        exception=exception,
    )


def dies(step: int | None = 40, exception: str = ERROR, **facts: Any) -> Pod:
    """A pod of attempt 2 that has ended with an exception."""
    words = LastWords(exception=exception, step=step)
    one = ended(1, 1, attempt=2, **facts)
    assert one.ending is not None
    return replace(one, ending=replace(one.ending, last_words=words))


BEFORE = (died(1), died(0))


@pytest.mark.parametrize(
    ("failed", "before", "fields", "reason"),
    [
        pytest.param(dies(), BEFORE, {}, "NoProgress", id="the third time"),
        pytest.param(dies(), BEFORE[:1], {}, None, id="the second time"),
        pytest.param(dies(41), BEFORE, {}, None, id="a step further"),
        pytest.param(dies(40, "KeyError"), BEFORE, {}, None, id="another exception"),
        pytest.param(dies(None), BEFORE, {}, None, id="the step is not known"),
        pytest.param(dies(0), (died(1, 0), died(0, 0)), {}, "NoProgress", id="in the first step"),
        pytest.param(dies(), (died(1, 30), died(0)), {}, None, id="another step in between"),
        pytest.param(dies(), (died(1), died(0, None)), {}, None, id="one that did not say"),
        pytest.param(dies(), (died(0), died(0)), {}, None, id="an attempt in between did not fail"),
        pytest.param(
            dies(disrupted="PreemptionByScheduler"), BEFORE, {}, None, id="it was taken away"
        ),
        pytest.param(
            dies(),
            BEFORE,
            {"rules": [{"action": "RestartFree", "exitCodes": [1]}]},
            None,
            id="a rule of the job comes first",
        ),
    ],
)
def test_three_equal_ends_in_a_row_end_the_job(
    failed: Pod, before: tuple[Failure, ...], fields: dict[str, object], reason: str | None
) -> None:
    status = Status(attempt=2, size=2, wanted=2, created=2, failures=before)
    seen = Observed(status=status, pods=(pod(0, 2), failed), service_uid="s")
    made = plan(spec(failurePolicy=MANY | fields), seen, NOW).status
    found = made.condition(ConditionType.FAILED)
    assert (None if found is None else found.reason) == reason
    if found is not None:
        step = before[0].step
        assert f"(3 attempts in a row ended with ValueError at step {step})" in found.message


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(0, 2), st.sampled_from([None, "A", "B"]))))
def test_a_row_is_three_equal_known_ends(ends: list[tuple[int | None, str | None]]) -> None:
    history = [died(number, step, name) for number, (step, name) in enumerate(ends)]
    for number, (step, name) in enumerate(ends):
        stuck = is_stuck(End(number, step, name), history[:number][::-1])
        last = ends[max(0, number - 2) : number + 1]
        assert stuck == (len(last) == 3 and len(set(last)) == 1 and None not in last[0])


@pytest.mark.parametrize(
    ("saved", "stopped_at", "before", "expected"),
    [
        pytest.param(None, None, None, False, id="none is known"),
        pytest.param(None, None, 10, False, id="none is known any more"),
        pytest.param((0, "storage"), None, None, True, id="the first one"),
        pytest.param((10, "storage"), None, 10, False, id="the same"),
        pytest.param((9, "storage"), None, 10, False, id="an older one: the newest was damaged"),
        pytest.param((11, "storage"), None, 10, True, id="a newer one"),
        pytest.param((11, "memory"), None, 10, False, id="in memory, which is lost with the pods"),
        pytest.param((10, "storage"), 12, 10, True, id="a newer one that the process reported"),
    ],
)
def test_a_newer_checkpoint_is_progress(
    saved: tuple[int, str] | None, stopped_at: int | None, before: int | None, expected: bool
) -> None:
    failures = (replace(died(1), checkpoint=None), replace(died(0), checkpoint=before))
    status = Status(checkpoint=saved and checkpoint(*saved), failures=failures)
    one = dies()
    assert one.ending is not None
    failed = replace(one, ending=replace(one.ending, stopped_at=stopped_at))
    seen = Observed(status=Status(attempt=2, size=2), pods=(failed,), service_uid="s")
    (cause,) = causes(seen, NOW)
    assert has_newer_checkpoint(cause, status) == expected


@pytest.mark.parametrize(
    ("counts", "step", "in_a_row", "restarts"),
    [
        pytest.param("Total", 40, 6, 1, id="the same checkpoint: nothing"),
        pytest.param("Total", 41, 1, 1, id="the backoff begins anew"),
        pytest.param("WithoutProgress", 40, 6, 1, id="the same checkpoint: the restart counts"),
        pytest.param("WithoutProgress", 41, 1, 0, id="and the restart does not count"),
    ],
)
@pytest.mark.parametrize("is_written", [True, False], ids=["in the status", "told since then"])
def test_what_a_newer_checkpoint_changes(
    counts: str, step: int, in_a_row: int, restarts: int, *, is_written: bool
) -> None:
    status = Status(
        attempt=2,
        size=2,
        wanted=2,
        created=2,
        failures_in_a_row=5,
        checkpoint=checkpoint(step if is_written else 40, "storage"),
        failures=(replace(died(1, 3), checkpoint=40),),
    )
    told = Told(progress=Progress(attempt=2, step=50, checkpoint=checkpoint(step, "storage")))
    seen = Observed(
        status=status,
        pods=(pod(0, 2), dies()),
        service_uid="s",
        told=Told() if is_written else told,
    )
    job = spec(replicas=2, failurePolicy={"countRestarts": counts})
    found = plan(job, seen, NOW).status
    assert (found.failures_in_a_row, found.restarts) == (in_a_row, restarts)
    assert found.failures[0].checkpoint == step


def checkpoint(step: int, tier: str) -> Checkpoint:
    return Checkpoint(step=step, tier=tier, time="2026-01-01T11:00:00Z")
