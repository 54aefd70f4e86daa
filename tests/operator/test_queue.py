from collections.abc import Awaitable, Callable

import pytest

from acceleratedjob.controller.backoff import Backoff, Refusals
from acceleratedjob.controller.workqueue import WorkQueue
from acceleratedjob.observe.observed import Refusal
from tests.operator.lives import run

Scenario = Callable[[WorkQueue], Awaitable[list[str]]]


async def asked_for_twice(queue: WorkQueue) -> list[str]:
    queue.add("a")
    queue.add("b")
    queue.add("a")
    return [await queue.take(), await queue.take()]


async def asked_for_while_worked_on(queue: WorkQueue) -> list[str]:
    queue.add("a")
    first = await queue.take()
    queue.add("a")
    queue.add("b")
    second = await queue.take()
    queue.done("a")
    return [first, second, await queue.take()]


async def the_earlier_time_wins(queue: WorkQueue) -> list[str]:
    queue.add_after("late", 0.02)
    queue.add_after("early", 60)
    queue.add_after("early", 0.001)
    queue.add_after("early", 60)
    return [await queue.take(), await queue.take()]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        pytest.param(asked_for_twice, ["a", "b"], id="asked for twice, given once"),
        pytest.param(
            asked_for_while_worked_on, ["a", "b", "a"], id="never to two workers, but again after"
        ),
        pytest.param(the_earlier_time_wins, ["early", "late"], id="the earlier time wins"),
    ],
)
def test_keys_come_out(scenario: Scenario, expected: list[str]) -> None:
    async def go() -> list[str]:
        return await scenario(WorkQueue())

    assert run(go()) == expected


def test_a_backoff_doubles_up_to_its_limit_and_begins_again() -> None:
    backoff = Backoff(initial=1, maximum=5)
    assert [backoff.next("a") for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset("a")
    assert (backoff.next("a"), backoff.next("b")) == (1, 1)


def test_what_was_refused_is_tried_again_later_and_later() -> None:
    refusals, quota = Refusals(Backoff(initial=2)), Refusal(message="quota", final=False)

    def left(seconds: float) -> float | None:
        told = refusals.get("a", seconds)
        return None if told is None else told.retry_in.total_seconds()

    assert left(0.0) is None
    refusals.add("a", quota, 10.0)
    assert [left(at) for at in (10.0, 11.5, 12.0, 99.0)] == [2.0, 0.5, 0.0, 0.0]
    refusals.add("a", quota, 20.0)
    assert left(20.0) == 4.0
    refusals.forget("a")
    assert left(20.0) is None
    refusals.add("a", quota, 30.0)
    assert left(30.0) == 2.0
