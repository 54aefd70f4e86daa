"""`acceleratedjob run`: a job on this machine, with what a person wants to see of it."""

import asyncio
import contextlib
import copy
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from acceleratedjob import api
from acceleratedjob.api import ConditionType, Manifest, View
from acceleratedjob.cluster import Changed
from acceleratedjob.exits import EXIT_FAILED, EXIT_INTERRUPTED
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.kubelet import Kubelet, replica_index
from acceleratedjob.local.process import check_runnable, ignored
from acceleratedjob.reconciler import Reconciler
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status

_COLOURS = (36, 33, 35, 32, 34, 31)  # ANSI, one for each replica in turn
_CLEAR = "\r\x1b[K"


@dataclass(slots=True)
class Console:
    """Lines of output above one live line, if there is a terminal; plain lines if not."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _live: str = ""

    def pod(self, pod: View, text: str) -> None:
        """Show a line of a replica's output."""
        index = replica_index(pod)
        prefix = f"[{index}]"
        if self.out.isatty():
            prefix = f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{prefix}\x1b[0m"
        self._write(f"{prefix} {text}")

    def tell(self, text: str) -> None:
        """Show a line of our own."""
        self._write(f"-- {text}")

    def live(self, text: str) -> None:
        """Replace the live line."""
        if self.out.isatty():
            self._live = text
            self.out.write(f"{_CLEAR}{text}")
            self.out.flush()

    def _write(self, line: str) -> None:
        clear = _CLEAR if self._live else ""
        self.out.write(f"{clear}{line}\n{self._live}")
        self.out.flush()


async def run_job(manifest: Manifest, *, workdir: Path) -> int:
    """Run a job to its end and return the exit code of the command.

    Args:
        manifest: an AcceleratedJob; its namespace may be absent.
        workdir: the folder that its processes start in.

    Raises:
        InvalidSpec: it cannot be run, or not here.
    """
    spec = JobSpec.from_manifest(manifest)
    check_runnable(spec)
    console, cluster = Console(), LocalCluster()
    for sentence in ignored(spec):
        console.tell(sentence)
    given = copy.deepcopy(manifest)
    given["metadata"].setdefault("namespace", "default")
    job = await cluster.create(given)
    reconciler = Reconciler(cluster)
    kubelet = Kubelet(cluster, workdir=workdir, show=console.pod)
    async with _background(reconciler.run(), kubelet.run()) as working:
        ended = asyncio.create_task(_follow(cluster, reconciler, console))
        interrupted = asyncio.create_task(_interrupt())
        reconciler.see(job)
        await asyncio.wait((ended, interrupted, working), return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if working.done():
            working.result()
        if not ended.done():
            ended.cancel()
            console.tell("interrupted; stopping all replicas")
            return EXIT_INTERRUPTED
        return _conclude(ended.result(), console)


@contextlib.asynccontextmanager
async def _background(
    *work: Coroutine[None, None, None],
) -> AsyncIterator["asyncio.Future[list[None]]"]:
    """Run coroutines until the block ends, and wait until they have cleaned up."""
    working = asyncio.gather(*work)
    try:
        yield working
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def _interrupt() -> None:
    """Return at the first Ctrl-C; a second one is Python's own."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _follow(cluster: LocalCluster, reconciler: Reconciler, console: Console) -> Status:
    """Show a job's progress until it is over and its pods have ended."""
    told = asyncio.create_task(_tell_events(cluster, console))
    try:
        async for change in cluster.watch(api.KIND):
            if isinstance(change, Changed):
                reconciler.see(change.object)
                status = Status.from_manifest(change.object)
                console.live(_summary(change.object, status))
                if status.finished:
                    return status
    finally:
        told.cancel()
    raise AssertionError  # a watch does not end


async def _tell_events(cluster: LocalCluster, console: Console) -> None:
    async for change in cluster.watch("Event"):
        if isinstance(change, Changed):
            console.tell(f"{change.object['reason']}: {change.object['message']}")


def _summary(job: View, status: Status) -> str:
    name = job["metadata"]["name"]
    return f"{name}  {status.phase}  {status.ready_ratio or ''}  restarts {status.restarts}"


def _conclude(status: Status, console: Console) -> int:
    console.live("")
    if status.holds(ConditionType.COMPLETE):
        console.tell("Succeeded")
        return 0
    reasons = (entry.message for entry in status.conditions if entry.type == ConditionType.FAILED)
    console.tell(f"Failed: {next(reasons, '')}")
    return EXIT_FAILED
