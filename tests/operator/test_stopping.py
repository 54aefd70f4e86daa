"""When a pod must have stopped of which nobody says that it has."""

from datetime import timedelta

import pytest

from acceleratedjob.actions import CreatePod
from acceleratedjob.observe import Observed
from acceleratedjob.plan import plan
from acceleratedjob.status import Status
from acceleratedjob.stopping import Stopping
from tests.operator.builders import NOW, deleting, pod, spec

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
    stopping, old = Stopping(), deleting(0)
    assert stopping.note("job", [pod(1)], 10.0) == {}
    assert stopping.note("job", [pod(1), old], 20.0) == {old.uid: timedelta()}
    assert stopping.note("another", [], 22.0) == {}
    assert stopping.note("job", [old], 25.5) == {old.uid: 5.5 * SECOND}
    assert stopping.note("job", [], 26.0) == {}
    assert stopping.note("job", [old], 30.0) == {old.uid: timedelta()}
    stopping.forget("job")
    assert stopping.note("job", [old], 40.0) == {old.uid: timedelta()}
