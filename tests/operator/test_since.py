"""For how long things have been so; when a pod must have stopped that never says so."""

from datetime import timedelta

import pytest

from acceleratedjob.api.status import Status
from acceleratedjob.controller.first_seen import Since
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner.actions import CreatePod
from acceleratedjob.planner.planner import plan
from tests.operator.builders import NOW, deleting, spec

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("hours", [-1, 0, 1])
@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        pytest.param(None, 60, id="seen just now: its grace, and the kubelet's margin"),
        pytest.param(59, 1, id="seen for almost as long"),
        pytest.param(60, None, id="it must have stopped"),
    ],
)
def test_it_is_waited_for_whatever_the_clocks_say(
    hours: int, seen: int | None, waits: int | None
) -> None:
    old = deleting(0, seconds=30)
    stopping = {} if seen is None else {old.uid: seen * SECOND}
    observed = Observed(status=Status(attempt=1), pods=(old,), stopping=stopping, service_uid="s")
    made = plan(spec(), observed, NOW + timedelta(hours=hours))
    assert made.requeue_after == (None if waits is None else waits * SECOND)
    creations = [one for group in made.steps for one in group if isinstance(one, CreatePod)]
    assert bool(creations) == (waits is None)


def test_it_is_counted_from_when_it_was_first_seen() -> None:
    since, none = Since(), timedelta()
    assert since.note("job", [], 10.0) == {}
    assert since.note("job", ["a"], 20.0) == {"a": none}
    assert since.note("another", ["a"], 22.0) == {"a": none}
    assert since.note("job", ["a", "b"], 25.5) == {"a": 5.5 * SECOND, "b": none}
    assert since.note("job", ["b"], 26.0) == {"b": 0.5 * SECOND}
    assert since.note("job", ["a"], 30.0) == {"a": none}
    since.forget("job")
    assert since.note("job", ["a"], 40.0) == {"a": none}
