"""The status line of `acceleratedjob run`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from acceleratedjob.api.names import View
from acceleratedjob.api.schema import dump
from acceleratedjob.api.times import utc_now
from acceleratedjob.commands.console import Console
from acceleratedjob.commands.job_line import job_line
from acceleratedjob.observe.progress import Progress

PERIOD_SECONDS = 1.0


@dataclass(slots=True)
class StatusLine:
    """Shows the line of a job, with the newest progress that the job has told.

    Attributes:
        console: the terminal.
        told: returns the last answer of the running attempt; None if there is none.
    """

    console: Console
    told: Callable[[], Progress | None] = lambda: None
    _job: View = field(default_factory=dict)

    def see(self, job: View) -> None:
        """Show the status of the job."""
        self._job = job
        self._draw()

    async def follow(self) -> None:
        """Show the last answer once a second, with the age of the checkpoint."""
        while True:
            self._draw()
            await asyncio.sleep(PERIOD_SECONDS)

    def _draw(self) -> None:
        if self._job:
            job = with_progress(self._job, self.told())
            self.console.live(job_line(job, utc_now(), width=self.console.width))


def with_progress(job: View, told: Progress | None) -> View:
    """Return a job whose status has an answer, which is newer than that of the status."""
    if told is None:
        return job
    newer = {"progress": dump(told)}
    if told.checkpoint is not None:
        newer["checkpoint"] = dump(told.checkpoint)
    return {**job, "status": {**(job.get("status") or {}), **newer}}
