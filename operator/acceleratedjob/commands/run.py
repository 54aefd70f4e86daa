"""`acceleratedjob run`: runs a job on this machine, and prints its output."""

import asyncio
import contextlib
import copy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from acceleratedjob.api import names
from acceleratedjob.api.names import ConditionType, Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed
from acceleratedjob.controller.controller import Controller
from acceleratedjob.exits import EXIT_FAILED, EXIT_INTERRUPTED
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.kubelet import Kubelet, replica_index
from acceleratedjob.local.lines import Line
from acceleratedjob.local.process import check_runnable, ignored
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS
from acceleratedjob.terminal import lines

_COLOURS = (36, 33, 35, 32, 34, 31)  # ANSI color codes, which the replicas use in turn
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CLEAR = "\r\x1b[K"


@dataclass(slots=True)
class Console:
    """Prints lines above a live status line; without a terminal, prints lines only.

    Attributes:
        out: where the lines are printed.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _live: str = ""

    def pod(self, pod: View, line: Line) -> None:
        """Print a line of the output of a replica; a progress bar replaces the live line."""
        index = replica_index(pod)
        prefix = f"[{index}]"
        if self.out.isatty():
            prefix = f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{prefix}\x1b[0m"
        if line.is_overwritten and self.out.isatty():
            self.live(f"{prefix} {line.text}")
        else:
            self._write(f"{prefix} {line.text}")

    def tell(self, text: str) -> None:
        """Print a line of our own, with control characters escaped."""
        for line in lines(f"-- {text}", "   | "):
            self._write(line)

    def live(self, text: str) -> None:
        """Replace the live line."""
        if self.out.isatty():
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be cleared
            self._live = text[:width]
            self.out.write(f"{_CLEAR}{self._live}")
            self.out.flush()

    def _write(self, line: str) -> None:
        clear = _CLEAR if self._live else ""
        self.out.write(f"{clear}{line}\n{self._live}")
        self.out.flush()


async def run_job(manifest: Manifest, *, workdir: Path) -> int:
    """Run a job until it has finished, and return the exit code of the command.

    Args:
        manifest: an AcceleratedJob; its namespace may be absent.
        workdir: the working directory of the processes.

    Raises:
        InvalidSpec: the job is invalid, or cannot run on this machine.
    """
    spec = JobSpec.from_manifest(manifest)
    check_runnable(spec)
    console, cluster = Console(), LocalCluster()
    for sentence in ignored(spec):
        console.tell(sentence)
    given = copy.deepcopy(manifest)
    given["metadata"].setdefault("namespace", "default")
    job = await cluster.create(given)
    controller = Controller(cluster)
    controller.see(job)
    kubelet = Kubelet(cluster, workdir=workdir, show=console.pod)
    try:
        status = await _serve(cluster, controller, kubelet, console, grace=spec.grace_seconds)
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return EXIT_INTERRUPTED if status is None else _conclude(status, console)


def _first(error: BaseException) -> BaseException:
    """Return the error that ended the run; the others followed from it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _serve(
    cluster: LocalCluster, controller: Controller, kubelet: Kubelet, console: Console, *, grace: int
) -> Status | None:
    """Run a job until it has finished, and return its status; None if it was interrupted."""
    interrupted = asyncio.Event()
    with _signals(interrupted, kubelet.kill):
        async with asyncio.TaskGroup() as tasks:  # an error in one task cancels the others
            ended = tasks.create_task(_follow(cluster, controller, console))
            asked = tasks.create_task(interrupted.wait())
            works = (_tell_events(cluster, console), controller.run(), kubelet.run())
            background = [tasks.create_task(work) for work in works]
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                console.tell(f"interrupted; stopping all replicas within {grace} s (again: now)")
            kubelet.stop(FAILED_GANG_GRACE_SECONDS if ended.done() else grace)
            for task in (ended, asked, *background):
                task.cancel()
    return None if ended.cancelled() else ended.result()


@contextlib.contextmanager
def _signals(interrupted: asyncio.Event, again: Callable[[], None]) -> Iterator[None]:
    """Inside the block, the first SIGINT or SIGTERM sets an event; later ones call `again`."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if interrupted.is_set():
            again()
        interrupted.set()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, heard)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _follow(cluster: LocalCluster, controller: Controller, console: Console) -> Status:
    """Show the progress of a job until it has finished."""
    async for change in cluster.watch(names.KIND):
        if isinstance(change, Changed):
            controller.see(change.object)
            status = Status.from_manifest(change.object)
            console.live(_summary(change.object, status))
            if status.finished:
                return status
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
    for failure in status.failures[:1]:  # repeated, because other replicas wrote lines after it
        for line in (failure.traceback or "").splitlines():
            console.tell(line)
    reasons = (entry.message for entry in status.conditions if entry.type == ConditionType.FAILED)
    console.tell(f"Failed: {next(reasons, '')}")
    return EXIT_FAILED
