"""What the status says of the training, from what its processes tell, and from earlier attempts.

A pod that tells nonsense can spoil the numbers of its own job only.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.schema import MAX_COUNT
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Condition, Status, condition, with_conditions
from acceleratedjob.api.times import age, format_time, parse_time
from acceleratedjob.api.training import (
    MAX_PERCENT,
    MEMORY,
    STORAGE,
    Checkpoint,
    Earlier,
    Goodput,
    Lost,
    Progress,
    Shown,
    total,
)
from acceleratedjob.observe import progress as answers
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.progress import VerdictKind
from acceleratedjob.planner import lives

_RATIO_DIGITS = 4
_ROUNDING = timedelta(seconds=2)  # less than the time between two polls
_DIGITS = 6  # significant digits of a rate
VERDICTS = {
    VerdictKind.HANG: (ConditionType.HANGING, Reason.HANG),
    VerdictKind.STRAGGLER: (ConditionType.STRAGGLING, Reason.STRAGGLER),
    VerdictKind.DIVERGENCE: (ConditionType.DIVERGED, Reason.DIVERGENCE),
}


def with_told(
    status: Status,
    told: answers.Progress | None,
    now: datetime,
    *,
    ago: timedelta = timedelta(),
) -> Status:
    """Return the status with the numbers and the verdicts of an answer of its attempt.

    Args:
        status: the status of the attempt.
        told: the answer; None if there is none. One of another attempt, or of an older life, is
            ignored.
        now: the current time.
        ago: the time since the answer.
    """
    if told is None or told.attempt != status.attempt or told.life < _known_life(status):
        return status
    counted = status.goodput or Goodput(start_time=status.start_time)
    made = _progress(status.progress, told, now - ago)
    first_step = None if made is None else made.first_step
    known = replace(
        status,
        progress=made,
        checkpoint=_checkpoint(status.checkpoint, told),
        goodput=_goodput(counted, told, first_step, now),
    )
    return with_shown(with_conditions(known, _verdicts(known, told), now))


def heard(spec: JobSpec, status: Status, observed: Observed, now: datetime) -> Status:
    """Return the status with what an attempt has told last, which may not be written yet.

    Args:
        spec: the spec of the job.
        status: the status of the attempt.
        observed: the observed state.
        now: the current time.
    """
    told = observed.told
    known = lives.counted(spec, status, told.progress, observed.pods, now)
    return with_told(known, told.progress, now, ago=told.age)


def went_on(old: Status, new: Status) -> str | None:
    """Return from which step a later attempt went on, in words, when that is first known."""
    before, after = old.progress, new.progress
    if after is None or after.first_step is None or after.attempt == 0:
        return None
    if before is not None and before.attempt == after.attempt and before.first_step is not None:
        return None
    if after.first_step == 0:
        return f"Attempt {after.attempt} begins at step 0: no checkpoint was found"
    return f"Attempt {after.attempt} goes on from step {after.first_step}"


def with_endings(spec: JobSpec, status: Status, pods: Sequence[Pod]) -> Status:
    """Return the status with what ended pods say of the steps and lives after the last answer.

    Args:
        spec: the spec of the job.
        status: the status of the attempt.
        pods: the pods of the attempt.
    """
    for pod in pods:
        ending = pod.ending
        if ending is not None and ending.step is not None:
            status = with_shown(_with_step(status, ending.step, ending.time, status.attempt))
        if ending is not None and pod.index == 0:
            status = lives.counted(spec, status, ending.progress, pods, ending.time)
            status = with_told(status, ending.progress, ending.time)
    return status


def with_stops(status: Status, pods: Iterable[Pod]) -> Status:
    """Return the status with the checkpoint with which the pods of the last attempt have stopped.

    They write it when the attempt is over for the operator, which does not ask them any more.

    Args:
        status: the status of the next attempt, which has told nothing yet.
        pods: all pods of the job.
    """
    has_told = status.progress is not None and status.progress.attempt >= status.attempt
    if status.finished or has_told:
        return status
    for pod in pods:
        ending = pod.ending
        is_last = pod.attempt + 1 == status.attempt
        if is_last and ending is not None and ending.stopped_at is not None:
            status = with_shown(_with_stop(status, ending.stopped_at, ending.time, pod.attempt))
    return status


def ended(status: Status, now: datetime) -> Status:
    """Return the status when an attempt ends: what it has told is closed, and what is gone is left.

    Args:
        status: the status of the attempt that ends.
        now: the current time.
    """
    before, progress, saved = status.goodput, status.progress, status.checkpoint
    if before is not None:
        step = None if progress is None else progress.step
        if status.ready_time is None:
            before = _with_pending(before, status, now)
        before = replace(
            before,
            earlier=Earlier(
                step=before.earlier.step if step is None else step,
                productive_seconds=before.productive_seconds,
                lost=before.lost,
            ),
        )
    if progress is not None:
        progress = replace(progress, eta_seconds=None, samples_per_second=None)
    if saved is not None and saved.tier == MEMORY:
        saved = None  # the memory was that of the pods
    closed = replace(status, goodput=before, progress=progress, checkpoint=saved, stall=None)
    return with_shown(with_conditions(closed, _settled(status), now))


def started(status: Status, old: Status, now: datetime) -> Status:
    """Return the status with an account of the time before the training; it begins when all are up.

    Args:
        status: the new status.
        old: the status as last written.
        now: the current time.
    """
    goodput, suspension = old.goodput, old.condition(ConditionType.SUSPENDED)
    if goodput is not None and suspension is not None and suspension.status == "True":
        goodput = _with_lost(goodput, Lost(stopped=_since(suspension.last_transition_time, now)))
    if old.ready_time is None and status.ready_time is not None:
        known = goodput or Goodput(start_time=status.start_time)
        goodput = _with_pending(known, status, now)
    return replace(status, goodput=goodput)


def with_shown(status: Status) -> Status:
    """Return the status with the texts for the columns."""
    progress, goodput = status.progress or Progress(), status.goodput or Goodput()
    eta, ratio = progress.eta_seconds, goodput.ratio
    shown = Shown(
        progress=None if progress.percent is None else f"{progress.percent}%",
        eta=None if eta is None else age(eta),
        goodput=None if ratio is None else f"{math.floor(100 * ratio)}%",
    )
    return replace(status, shown=None if shown == Shown() else shown)


def _known_life(status: Status) -> int:
    """Return the life of the attempt that the numbers are of."""
    known = status.progress
    return known.life if known is not None and known.attempt == status.attempt else 0


def _progress(known: Progress | None, told: answers.Progress, read_at: datetime) -> Progress | None:
    """Return the new numbers; within a life, the step and the epoch never fall."""
    if told.step is None:
        return known
    step, epoch, first = told.step, told.epoch, told.first_step
    if known is not None and known.attempt == told.attempt:
        first = first if known.first_step is None else known.first_step
        if told.life == known.life:
            step = max(step, known.step or 0)
            epoch = known.epoch if epoch is None else max(epoch, known.epoch or 0)
    return Progress(
        attempt=told.attempt or 0,
        life=told.life,
        first_step=first,
        step=step,
        total_steps=told.total_steps,
        epoch=epoch,
        epochs=told.epochs,
        percent=_percent(step, told.total_steps),
        eta_seconds=None if told.eta_seconds is None else int(min(told.eta_seconds, MAX_COUNT)),
        samples_per_second=_rounded(told.samples_per_second),
        step_seconds=_rounded(told.step_seconds),
        loss=None if told.loss is None else _text(told.loss),
        time=_read_at(known, read_at),
    )


def _read_at(known: Progress | None, read_at: datetime) -> str:
    """Format when an answer was read; two times of the same answer may differ by rounding."""
    before = None if known is None else known.time
    if before is not None and abs(read_at - parse_time(before)) < _ROUNDING:
        return before
    return format_time(read_at)


def _with_stop(status: Status, step: int, now: datetime, attempt: int) -> Status:
    saved = status.checkpoint
    if saved is None or (saved.tier, saved.step) < (STORAGE, step):
        made = Checkpoint(step=step, tier=STORAGE, time=format_time(now))
        status = replace(status, checkpoint=made)
    return _with_step(status, step, now, attempt)


def _with_step(status: Status, step: int, now: datetime, attempt: int) -> Status:
    """Return the status with the step at which a process has ended, if it is a later one."""
    known = status.progress or Progress()
    if known.attempt == attempt and known.step is not None and known.step >= step:
        return status
    if known.attempt != attempt:
        known = replace(known, life=0, first_step=None)
    percent = _percent(step, known.total_steps)
    known = replace(known, attempt=attempt, step=step, percent=percent, time=format_time(now))
    return replace(status, progress=known)


def _percent(step: int, total: int | None) -> int | None:
    return min(MAX_PERCENT, MAX_PERCENT * step // total) if total else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else min(float(f"{value:.{_DIGITS}g}"), float(MAX_COUNT))


def _text(loss: float) -> str:
    """Format a loss.

    >>> [_text(loss) for loss in (0.25, 1234567.0, math.nan, -math.inf)]
    ['0.25', '1.23457e+06', 'NaN', '-Infinity']
    """
    if math.isfinite(loss):
        return f"{loss:.{_DIGITS}g}"
    return "NaN" if math.isnan(loss) else "Infinity" if loss > 0 else "-Infinity"


def _checkpoint(known: Checkpoint | None, told: answers.Progress) -> Checkpoint | None:
    """Return the newest checkpoint on storage, which outlives the pods, or else in memory."""
    found = [one for one in (told.checkpoint, *told.checkpoints) if one is not None]
    stored = [one for one in found if one.tier == STORAGE]
    newest = next(iter(stored or found), None)
    if newest is None:
        return known
    newest = replace(newest, seconds=_rounded(newest.seconds))
    is_older = known is not None and (newest.tier, newest.step) < (known.tier, known.step)
    return known if is_older else newest


def _goodput(
    known: Goodput, told: answers.Progress, first_step: int | None, now: datetime
) -> Goodput:
    """Add what an attempt tells to what was counted before it.

    The attempt went on from an earlier step than that of the last attempt if the checkpoint was
    older: these steps were done again, and count once.
    """
    before, seconds = known.earlier, told.goodput.productive_seconds
    lost, productive = before.lost.plus(told.goodput.lost), known.productive_seconds
    if seconds is not None and told.step_seconds:
        again = 0 if first_step is None else max(0, (before.step or 0) - first_step)
        kept = before.productive_seconds or 0.0
        redone = min(again * told.step_seconds, kept)
        productive = total(kept - redone, seconds)
        lost = lost.plus(Lost(redone=redone or None))
    return replace(
        known, lost=lost, productive_seconds=productive, ratio=_ratio(known, productive, now)
    )


def _ratio(known: Goodput, productive: float | None, now: datetime) -> float | None:
    wall = 0.0 if known.start_time is None else _since(known.start_time, now)
    if productive is None or wall <= 0:
        return None
    return round(min(1.0, productive / wall), _RATIO_DIGITS)


def _with_lost(goodput: Goodput, more: Lost) -> Goodput:
    """Add seconds that were lost before the processes of the attempt began."""
    earlier = replace(goodput.earlier, lost=goodput.earlier.lost.plus(more))
    return replace(goodput, lost=goodput.lost.plus(more), earlier=earlier)


def _with_pending(goodput: Goodput, status: Status, now: datetime) -> Goodput:
    """Add the time in which the pods of the attempt were not all up."""
    begins = [parse_time(status.start_time)] if status.start_time else [now]
    if goodput.lost != Lost():  # else nothing was counted before, such as earlier attempts
        begins += [parse_time(one.time) for one in status.ends[:1]]
        ready = status.condition(ConditionType.READY)
        if ready is not None and ready.status == "False":
            begins.append(parse_time(ready.last_transition_time))
    return _with_lost(goodput, Lost(pending=max(0.0, (now - max(begins)).total_seconds())))


def _since(time: str, now: datetime) -> float:
    return min(max(0.0, (now - parse_time(time)).total_seconds()), MAX_COUNT)


def _verdicts(status: Status, told: answers.Progress) -> list[Condition]:
    """Return the conditions about verdicts: those that hold, and those that held before."""
    found = []
    for kind, (type_, reason) in VERDICTS.items():
        verdict = told.verdict(kind)
        if verdict is not None:
            generation = status.observed_generation or 0
            found.append(condition(type_, True, reason, verdict.text, generation))
        elif status.holds(type_):
            found.append(_off(status, type_, Reason.RECOVERED))
    return found


def _settled(status: Status) -> list[Condition]:
    """Return the conditions about verdicts when the processes have ended."""
    types = (type_ for type_, _ in VERDICTS.values())
    return [_off(status, type_, Reason.ATTEMPT_ENDED) for type_ in types if status.holds(type_)]


def _off(status: Status, type_: ConditionType, reason: Reason) -> Condition:
    return condition(type_, False, reason, "", status.observed_generation or 0)
