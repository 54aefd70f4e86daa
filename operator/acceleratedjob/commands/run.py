"""`acceleratedjob run`: runs a job on this machine, and prints its output."""

import asyncio
import contextlib
import copy
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from acceleratedjob.api import names
from acceleratedjob.api.checkpoint import claim_name
from acceleratedjob.api.names import ConditionType, Manifest, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed
from acceleratedjob.commands.advice import next_step
from acceleratedjob.commands.console import Console
from acceleratedjob.commands.source import STDIN, Source
from acceleratedjob.commands.source import ignored as other_kinds
from acceleratedjob.commands.status_line import PERIOD_SECONDS, StatusLine
from acceleratedjob.commands.waiting import NO_GPU, Waits, fitting
from acceleratedjob.controller.polling.cadence import POLLS
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.exits import EXIT_FAILED, EXIT_INTERRUPTED
from acceleratedjob.local import orphans
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.dealing import Gpus, check_gpus, shortage
from acceleratedjob.local.kubelet import Kubelet
from acceleratedjob.local.machine import Machine, Work
from acceleratedjob.local.process import check_runnable, ignored, on_this_machine

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_source(source: Source, *, workdir: Path | None) -> int:
    """Run the job of a manifest until it has finished, and return the exit code of the command.

    Args:
        source: the manifest.
        workdir: the working directory of the processes; None for the folder of the manifest.

    Raises:
        InvalidSpec: the manifest has not exactly one job, or the job cannot run on this machine.
    """
    gpus = Gpus.of_this_machine()
    check = partial(check_gpus, gpus=gpus, advice=NO_GPU)
    documents, folder = source.read(check_runnable, check), source.folder
    if len(documents.jobs) > 1:
        found = ", ".join(spec.name for spec in documents.specs)
        sentence = f"must have one {names.KIND} to run, got {found}: put each into its own file"
        raise InvalidSpec("manifest", sentence)
    (spec,) = documents.specs
    console = Console(prompts=gets_stdin(spec, is_taken=source.place == STDIN))
    for sentence in other_kinds(documents):
        console.tell(sentence)
    run = run_job(
        documents.jobs[0], workdir=workdir or folder, folder=folder, console=console, gpus=gpus
    )
    with orphans.none_left():
        return asyncio.run(run)


async def run_job(
    manifest: Manifest,
    *,
    workdir: Path,
    folder: Path,
    cluster: LocalCluster | None = None,
    console: Console | None = None,
    gpus: Gpus | None = None,
) -> int:
    """Run a job until it has finished, and return the exit code of the command.

    Args:
        manifest: an AcceleratedJob; its namespace may be absent.
        workdir: the working directory of the processes.
        folder: the directory of the manifest, beside which checkpoints are kept.
        cluster: where the job is created; one of its own by default.
        console: where the output is printed; the standard output by default.
        gpus: the GPUs of this machine; by default those that this program sees.

    Raises:
        InvalidSpec: the job is invalid, or cannot run on this machine.
    """
    gpus = gpus or Gpus.of_this_machine()
    spec = _runnable(manifest, gpus)
    console, cluster = console or Console(), cluster or LocalCluster()
    for sentence in ignored(spec):
        console.tell(sentence)
    given = copy.deepcopy(manifest)
    given["metadata"].setdefault("namespace", "default")
    job = await cluster.create(given)
    uid, volume = job["metadata"]["uid"], folder / claim_name(spec.name)
    kept = _checkpoints(spec, uid, volume)
    if kept is not None:
        console.tell(f"checkpoints are written to {kept.place}")
    kubelet = Kubelet(
        cluster,
        workdir=workdir,
        checkpoints=volume,
        show=console.pod,
        reads_stdin=console.prompts,
        gpus=gpus,
    )
    budget = replace(POLLS, at_least=PERIOD_SECONDS) if console.is_live else POLLS
    machine = Machine(cluster, kubelet, budget=budget)
    line = StatusLine(console, lambda: machine.progress(uid))
    asked_to_end = asyncio.Event()
    waits = Waits(console, shortage(spec, gpus), asked_to_end.set)
    try:
        with _signals(asked_to_end, kubelet.kill):
            status = await machine.run(
                job,
                see=partial(_see, line, waits),
                asked_to_end=asked_to_end.wait(),
                grace=spec.grace_seconds,
                beside=_beside(cluster, line),
                before_stop=partial(_close, waits, spec.grace_seconds),
            )
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        console.close()
    code = _ended(waits) if status is None else _conclude(status, console)
    if code and kept is not None and kept.next and not _never_began(status):
        console.tell(f"Next: {kept.next}")
    return code


def _runnable(manifest: Manifest, gpus: Gpus) -> JobSpec:
    """Return a job that can run on this machine."""
    spec = JobSpec.from_manifest(manifest)
    check_runnable(spec)
    check_gpus(spec, gpus, NO_GPU)
    return spec


def _never_began(status: Status | None) -> bool:
    """Whether nothing was trained, because the command could not be started."""
    return (
        status is not None
        and status.attempt == 0
        and any(
            one.type == ConditionType.FAILED and one.reason == Reason.CANNOT_START
            for one in status.conditions
        )
    )


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its checkpoints, and how another run goes on from them.

    Attributes:
        place: the path or URL.
        again: what to set so that another run goes on from them; empty if it does anyway.
    """

    place: str
    again: str

    @property
    def next(self) -> str:
        """The sentence about another run; empty if there is no checkpoint to go on from."""
        path = Path(self.place)
        if "://" not in self.place and not (path.is_dir() and any(path.iterdir())):
            return ""
        how = f"add `--set {self.again}`" if self.again else "run the command again"
        return f"to go on from the checkpoints in {self.place}, {how}"


def _checkpoints(spec: JobSpec, uid: str, folder: Path) -> Checkpoints | None:
    """Return where the checkpoints of a run are; None if the job has none."""
    if spec.checkpoint is None:
        return None
    place = on_this_machine(spec.checkpoint.address(spec.name, uid), folder)
    return Checkpoints(
        place, "" if spec.checkpoint.path else f"spec.checkpoint.path={Path(place).name}"
    )


def _first(error: BaseException) -> BaseException:
    """Return the error that ended the run; the others followed from it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _beside(cluster: LocalCluster, line: StatusLine) -> Iterator[Work]:
    """Yield what a run prints beside the output of the replicas."""
    yield _tell_events(cluster, line.console)
    if line.console.is_live:
        yield line.follow()


def _see(line: StatusLine, waits: Waits, job: Manifest) -> None:
    line.see(job)
    waits.see(job)


def _close(waits: Waits, grace: int, finished: bool) -> None:
    """Remove the live lines, and say what follows if the run is interrupted."""
    waits.console.close()
    if not finished and not waits.is_vain:
        waits.console.tell(f"interrupted; stopping all replicas within {grace} s (again: now)")


@contextlib.contextmanager
def _signals(asked: asyncio.Event, again: Callable[[], None]) -> Iterator[None]:
    """Inside the block, the first signal to stop sets an event; later ones call `again`."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if asked.is_set():
            again()
        asked.set()

    heeded = [one for one in _STOP_SIGNALS if signal.getsignal(one) != signal.SIG_IGN]  # nohup
    for number in heeded:
        loop.add_signal_handler(number, heard)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


async def _tell_events(cluster: LocalCluster, console: Console) -> None:
    async for change in cluster.watch("Event"):
        if isinstance(change, Changed):
            console.tell(f"{change.object['reason']}: {change.object['message']}")


def _ended(waits: Waits) -> int:
    """Say why a run that has not finished was ended, and return the exit code."""
    if not waits.is_vain or waits.lacks is None:
        return EXIT_INTERRUPTED
    waits.console.tell(f"Failed: {waits.lacks}")
    waits.console.tell(f"Next: {fitting(waits.lacks)}")
    return EXIT_FAILED


def _conclude(status: Status, console: Console) -> int:
    if status.holds(ConditionType.COMPLETE):
        console.tell("Succeeded")
        return 0
    for failure in status.ends[:1]:  # repeated, because other replicas wrote lines after it
        for line in (failure.traceback or "").splitlines():
            console.tell(line)
    reasons = (entry.message for entry in status.conditions if entry.type == ConditionType.FAILED)
    console.tell(f"Failed: {next(reasons, '')}")
    for failure in status.ends[:1]:
        console.tell(f"Next: {next_step(failure.reason, failure.exception)}")
    return EXIT_FAILED


def gets_stdin(spec: JobSpec, *, is_taken: bool) -> bool:
    """Whether the training reads from the standard input: one process, so that a debugger works.

    Args:
        spec: the job.
        is_taken: whether the manifest was read from the standard input.
    """
    return not is_taken and spec.replicas * spec.processes == 1 and is_answered(0)


def is_answered(descriptor: int) -> bool:
    """Whether somebody may write to a file: a pipe, or a terminal in whose foreground we are."""
    try:
        if os.isatty(descriptor):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        return not stat.S_ISCHR(os.fstat(descriptor).st_mode)  # as /dev/null is
    except OSError:  # it is closed; or a terminal without job control for us
        return os.isatty(descriptor)
