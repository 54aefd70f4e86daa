"""`acceleratedjob stop` and `resume`: suspend a job with what it has saved, and let it go on."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from functools import partial

from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age, parse_time, utc_now
from acceleratedjob.api.training import STORAGE
from acceleratedjob.commands.errors import Misuse, NotDone
from acceleratedjob.commands.session import Session, exit_code
from acceleratedjob.observe.stops import is_at_rest, loss_of_a_stop
from acceleratedjob.terminal import complain, say


async def stop(session: Session, *, within: float | None, force: bool) -> int:
    """Suspend a job, wait until its pods are gone, and print what is kept; return the exit code.

    Args:
        session: the job.
        within: how long to wait, in seconds; None for as long as it takes.
        force: whether to stop a job that loses its training.

    Raises:
        Misuse: it loses its training, and `force` is False.
        NotDone: pods have not ended in time.
    """
    job = await session.read()
    status, name = Status.from_manifest(job), session.name
    if status.finished:
        say(f"{name} has finished ({status.phase}): there is nothing to stop")
        return 0
    if not job["spec"].get("suspend"):
        loss = None if force else loss_of_a_stop(job, utc_now())
        if loss is not None:
            raise Misuse(f"{loss}; to stop it nevertheless, use --force")
        await session.suspend(True)
    late = (
        f"the pods of {name} have not all ended in time; the job stays "
        f"suspended, and {session.hint('why')} explains its state"
    )
    told = partial(stopped, resume=session.hint("resume"))
    return await _once(session, is_at_rest, within, late=late, waits=_ends, told=told)


async def resume(session: Session, *, wait: bool, within: float | None) -> int:
    """Let a suspended job go on, and wait for a step if asked; return the exit code.

    Args:
        session: the job.
        wait: whether to wait until a step is done.
        within: how long to wait, in seconds; None for as long as it takes.

    Raises:
        NotDone: no step was done in time.
    """
    job = await session.read()
    status, name = Status.from_manifest(job), session.name
    if status.finished:
        say(f"{name} has finished ({status.phase}): it cannot go on")
        return exit_code(job)
    was_suspended = bool(job["spec"].get("suspend"))
    if was_suspended:
        await session.suspend(False)
    if not wait:
        told = "is resumed" if was_suspended else "is not suspended"
        say(f"{name} {told}; {session.hint('status', '--watch')} follows it")
        return 0
    late = f"{name} has done no step in time; {session.hint('why')} explains its state"
    return await _once(session, has_trained, within, late=late, waits=_starts, told=resumed)


def has_trained(job: View) -> bool:
    """Whether the attempt has done a step since its checkpoint, or the job has finished."""
    status = Status.from_manifest(job)
    progress, saved = status.progress, status.checkpoint
    if progress is None or progress.step is None or progress.attempt != status.attempt:
        return status.finished
    is_seen = (status.observed_generation or 0) >= job["metadata"]["generation"]
    first = 0 if saved is None else min(saved.step, progress.step - 1)
    return status.finished or (is_seen and progress.step > first)


def stopped(job: View, now: datetime, *, resume: str = "`acceleratedjob resume`") -> Iterator[str]:
    """Yield what is kept of a job that has stopped.

    Args:
        job: the job.
        now: the time, for the age of the checkpoint.
        resume: the command that lets it go on.
    """
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    if status.finished:
        yield f"{name} has finished before it stopped ({status.phase})"
        return
    yield f"{name} is stopped{_at(status)}"
    yield f"  {_kept(job, status, now)}"
    yield f"  {resume} lets it go on"


def resumed(job: View, _: datetime) -> Iterator[str]:
    """Yield the sentence about a job that goes on."""
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    if status.finished:
        yield f"{name} has finished ({status.phase})"
    else:
        yield f"{name} goes on in attempt {status.attempt}{_at(status)}"


def _at(status: Status) -> str:
    progress = status.progress
    if progress is None or progress.step is None:
        return ""
    total = "" if progress.total_steps is None else f" of {progress.total_steps}"
    return f" at step {progress.step}{total}"


def _kept(job: View, status: Status, now: datetime) -> str:
    saved, progress = status.checkpoint, status.progress
    if job["spec"].get("checkpoint") is None:
        return "no spec.checkpoint: it begins anew, unless the script loads a checkpoint by itself"
    if saved is None or saved.tier != STORAGE:
        return (
            "which checkpoint it has written while it stopped is not known yet: the next attempt "
            "says at which step it goes on"
        )
    ago = age((now - parse_time(saved.time)).total_seconds())
    kept = f"kept: the checkpoint of step {saved.step}, written {ago} ago"
    repeated = 0 if progress is None or progress.step is None else progress.step - saved.step
    return kept if repeated <= 0 else f"{kept}; at most {repeated} steps are executed again"


def _ends(job: View) -> str:
    """Return what a stop waits for."""
    status = Status.from_manifest(job)
    count = status.replicas + status.terminating
    pods = f"{count} pods" if count else "the pods"
    return f"waiting until {pods} of {job['metadata']['name']} have ended"


def _starts(job: View) -> str:
    """Return what a resume waits for."""
    status = Status.from_manifest(job)
    up = f", {status.ready_ratio} replicas up" if status.ready_ratio else ""
    return f"waiting for a step of {job['metadata']['name']}: {status.phase}{up}"


async def _once(
    session: Session,
    holds: Callable[[View], bool],
    within: float | None,
    *,
    late: str,
    waits: Callable[[View], str],
    told: Callable[[View, datetime], Iterable[str]],
) -> int:
    """Wait until something holds for the job, print what is told of it, return the exit code.

    Args:
        session: the job.
        holds: whether it holds.
        within: how long to wait, in seconds.
        late: the error if it does not hold in time.
        waits: returns what is waited for, which is printed to the standard error if it changes.
        told: returns what to print if it does.

    Raises:
        NotDone: it does not hold in time.
    """
    try:
        async with asyncio.timeout(within), aclosing(session.states()) as states:
            before = ""
            async for job in states:
                if holds(job):
                    say(*told(job, utc_now()))
                    return exit_code(job)
                sentence = waits(job)
                if sentence != before:
                    complain(sentence)
                before = sentence
    except TimeoutError:
        raise NotDone(late) from None
    raise AssertionError  # a watch does not end
