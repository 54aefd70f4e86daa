"""A stall is judged by one clock, however often the operator restarts."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import Clock, Fated, Operator
from tests.operator.containers import Containers
from tests.operator.lives import AT_ONCE, REF

DEADLINE = 120  # seconds
LIVES = 40.0  # seconds that an operator lives, less than the deadline


class Stalled(Containers):
    """A job that runs on fake nodes, and what its replica 0 answers."""

    def __init__(self, answers: str) -> None:
        self.clock, self.answers = Clock(), answers
        self.store = LocalCluster(now=self.clock.now)
        self.processes, self.done = {}, set()
        manifest = job(stallDeadlineSeconds=DEADLINE, failurePolicy=AT_ONCE)
        self.clock.run_until_complete(self.store.create(manifest))
        self.operator = Operator(self.clock, Fated(self.store, REF), self.ask)

    async def ask(self, target: Target) -> bytes:
        await asyncio.sleep(0)
        if self.answers == "nothing":
            raise OSError("no answer")
        verdicts = [{"kind": "hang", "text": "rank 1 hangs"}] if self.answers == "a hang" else []
        told = {"attempt": target.attempt, "life": 0, "step": 7, "verdicts": verdicts}
        return json.dumps(told).encode()

    def passes(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        until = self.clock.elapsed + seconds
        while self.clock.elapsed < until:
            self.clock.elapsed += 1.0
            self.clock.tick(10)
            self.operator.hear_all()

    def begin(self) -> None:
        """All pods run, each at an address."""
        self.operator.hear_all()
        self.clock.tick()
        self.operator.hear_all()
        for pod in self.pods():
            self.starts(pod, ready=True)
        self.passes(1)

    def restart(self) -> None:
        self.operator.kill()
        self.operator.start()

    @property
    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(names.KIND)[0])


@contextmanager
def running(answers: str) -> Iterator[Stalled]:
    made = Stalled(answers)
    try:
        made.begin()
        yield made
    finally:
        made.operator.close()
        made.clock.close()


@pytest.mark.parametrize("answers", ["a hang", "nothing"])
def test_a_job_stalls_though_no_operator_lives_as_long_as_the_deadline(answers: str) -> None:
    with running(answers) as made:
        began = made.clock.elapsed
        while made.status.attempt == 0 and made.clock.elapsed < began + 2 * DEADLINE:
            made.passes(LIVES)
            made.restart()
        (failure,) = made.status.failures
        assert (failure.reason, made.status.attempt) == ("Stalled", 1)
        assert made.clock.elapsed - began >= DEADLINE
        assert made.status.stall is None


def test_a_job_that_answers_never_stalls() -> None:
    with running("all is well") as made:
        for _ in range(5):
            made.passes(LIVES)
            made.restart()
        assert made.status.failures == ()
        assert made.status.progress is not None


def test_a_stall_that_ends_under_another_operator_is_forgotten() -> None:
    with running("a hang") as made:
        made.passes(DEADLINE - 20)
        assert made.status.stall is not None
        made.restart()
        made.answers = "all is well"
        made.passes(20)
        assert made.status.stall is None
        made.answers = "a hang"
        made.passes(DEADLINE - 20)
        failures: tuple[Failure, ...] = made.status.failures
        assert failures == ()
