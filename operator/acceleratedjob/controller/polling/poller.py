"""Asks all running jobs for their progress, in turn."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from acceleratedjob import metrics
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.asking import ask
from acceleratedjob.controller.polling.cadence import POLLS, Budget, due
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.observe.progress import NotProgressError, read_progress

log = logging.getLogger(__name__)
TICK_SECONDS = 0.2
Ask = Callable[[Target], Awaitable[bytes]]


async def ask_pod(target: Target) -> bytes:
    """Ask a pod at its own address."""
    return await ask(target.address, target.port)


class Poller:
    """Asks the jobs of some controllers; all share one budget of polls, and one of writes."""

    def __init__(
        self, controllers: Sequence[Controller], *, ask: Ask = ask_pod, budget: Budget = POLLS
    ) -> None:
        """Create a poller.

        Args:
            controllers: the controllers whose jobs are asked.
            ask: asks a target, and returns the body of its answer.
            budget: how often to ask.
        """
        self._controllers = controllers
        self._ask = ask
        self._budget = budget
        self._last: dict[str, float] = {}

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = asyncio.get_running_loop().time()
                for controller, job, target in self._due(now):
                    tasks.create_task(self._poll(controller, job, target))
                await asyncio.sleep(TICK_SECONDS)

    def _due(self, now: float) -> list[tuple[Controller, str, Target]]:
        """Return the jobs to ask now, and note that they are asked."""
        homes = {job: one for one in self._controllers for job in one.hearing}
        for controller in self._controllers:
            controller.turns.jobs = len(homes)
        found = due(
            self._last,
            homes,
            now,
            interval=self._budget.interval(len(homes)),
            at_most=self._budget.at_a_time(len(homes), TICK_SECONDS),
        )
        self._last = {job: self._last[job] for job in homes if job in self._last}
        self._last |= dict.fromkeys(found, now)
        aimed = ((homes[job], job, homes[job].hearing.target(job)) for job in found)
        return [(home, job, target) for home, job, target in aimed if target is not None]

    async def _poll(self, controller: Controller, job: str, target: Target) -> None:
        result, progress = "ok", None
        try:
            progress = read_progress(await self._ask(target))
        except NotProgressError:
            result = "invalid"
        except TimeoutError:
            result = "timeout"
        except OSError:
            result = "unreachable"
        except Exception:  # one job's answer must not stop the others
            result = "invalid"
            log.exception("the answer of job %s cannot be read", job)
        now = asyncio.get_running_loop().time()
        if progress is None:
            controller.hearing.miss(job, target, now)
        elif not controller.hearing.hear(job, target, progress, now):
            result = "stale"
        metrics.POLLS.labels(result).inc()
        if controller.hearing.is_of_note(job) or (
            progress is not None and controller.turns.is_due(job, now)
        ):
            controller.queue.add(job)
