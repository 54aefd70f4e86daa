"""Works side by side: how many at once, and what is heard of those that fail."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from acceleratedjob.controller.batches import slow_start, together
from acceleratedjob.controller.reporting import log_failed_reconcile
from acceleratedjob.errors import NoAnswer, Refused, Unavailable
from tests.operator.builders import job

Fails = Callable[[int], Exception | None]


async def attempts(count: int, fails: Fails) -> tuple[list[list[int]], BaseException | None]:
    """The works that were begun in each turn of the loop, and what was raised."""
    batches: list[list[int]] = []

    async def work(number: int) -> None:
        if not batches or number > batches[-1][-1] + 1 or gate.is_set():
            batches.append([])
            gate.clear()
        batches[-1].append(number)
        await asyncio.sleep(0)
        gate.set()
        error = fails(number)
        if error is not None:
            raise error

    gate = asyncio.Event()
    gate.set()
    try:
        await slow_start([partial(work, number) for number in range(count)])
    except Exception as error:  # noqa: BLE001  # it is what the test is about
        return batches, error
    return batches, None


def refused(number: int) -> Exception:
    return Refused(f'pods "digits-0-{number}" is forbidden: exceeded quota: few', final=False)


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [
        pytest.param(0, 9, [], id="nothing is to be done"),
        pytest.param(12, 99, [1, 2, 4, 5], id="batches double until all is done"),
        pytest.param(999, 0, [1], id="a quota that is full costs one request"),
        pytest.param(999, 4, [1, 2, 4], id="the batch that meets the quota is the last"),
    ],
)
def test_a_slow_start(count: int, limit: int, sizes: list[int]) -> None:
    batches, error = asyncio.run(
        attempts(count, lambda number: refused(number) if number >= limit else None)
    )
    assert [len(batch) for batch in batches] == sizes
    assert [number for batch in batches for number in batch] == list(range(sum(sizes)))
    assert (error is None) == (count <= limit)


def test_all_works_side_by_side_come_to_their_end_though_one_fails() -> None:
    done = []

    async def work(number: int) -> None:
        if number == 0:
            raise refused(number)
        await asyncio.sleep(0)
        done.append(number)

    with pytest.raises(Refused):
        asyncio.run(together([partial(work, number) for number in range(3)]))
    assert done == [1, 2]


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("errors", "lines"),
    [
        pytest.param(
            [refused(1), Unavailable("(500)"), ValueError("a bug")],
            [
                ("WARNING", 'retry in 1 s: pods "digits-0-1" is forbidden: exceeded quota: few'),
                ("WARNING", "retry in 1 s: (500)"),
                ("ERROR", "retry in 1 s: a bug"),
            ],
            id="different ones: each",
        ),
        pytest.param(
            [refused(1), refused(2), refused(3)],
            [
                (
                    "WARNING",
                    'retry in 1 s: pods "digits-0-1" is forbidden: exceeded quota: few (3 times)',
                )
            ],
            id="the same of several pods: once, and how often",
        ),
        pytest.param(
            [NoAnswer("no answer"), refused(1)],
            [("WARNING", 'retry in 1 s: pods "digits-0-1" is forbidden: exceeded quota: few')],
            id="a silence is said elsewhere, and hides no other",
        ),
        pytest.param([ValueError("a bug")], [("ERROR", "retry in 1 s: a bug")], id="the only one"),
    ],
)
def test_the_errors_of_actions_side_by_side_are_all_logged(
    errors: Sequence[Exception], lines: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        try:
            asyncio.run(together([partial(fail, error) for error in errors]))
        except Exception as error:  # noqa: BLE001  # it is what the test is about
            log_failed_reconcile(job(), error, 1.0)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == lines
    bugs = [one for one in caplog.records if one.levelname == "ERROR"]
    assert all(one.exc_info for one in bugs)
