"""The status line of `acceleratedjob run`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import utc_now
from acceleratedjob.commands.bar import bar
from acceleratedjob.commands.console import Console
from acceleratedjob.observe.progress import Progress

PERIOD_SECONDS = 1.0


@dataclass(slots=True)
class StatusLine:
    """Shows how far the training is; as long as the job does not tell, shows the job's status.

    Attributes:
        console: the terminal.
        name: the name of the job.
        told: returns the last answer of the running attempt; None if there is none.
    """

    console: Console
    name: str
    told: Callable[[], Progress | None] = lambda: None
    _summary: str = ""

    def see(self, job: View) -> None:
        """Show the status of the job."""
        status = Status.from_manifest(job)
        parts = (self.name, status.phase, status.ready_ratio or "", f"restarts {status.restarts}")
        self._summary = "  ".join(map(str, parts))
        self._draw()

    async def follow(self) -> None:
        """Show the last answer once a second, with the age of the checkpoint."""
        while True:
            self._draw()
            await asyncio.sleep(PERIOD_SECONDS)

    def _draw(self) -> None:
        progress, width = self.told(), self.console.width
        if progress is None or progress.step is None:
            self.console.live(self._summary)
        else:
            self.console.live(bar(progress, name=self.name, width=width, now=utc_now()))
