"""The part of `acceleratedjob why` about the time of a job: what it went into."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api.names import ConditionType
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age, parse_time
from acceleratedjob.api.training import Goodput

# The field of `status.goodput.lost`, and what it is in words.
CAUSES = {
    "pending": "waiting for pods",
    "starting": "starting processes",
    "loading": "importing, and loading data and checkpoints",
    "redone": "steps that were executed again after restarts",
    "checkpoint": "pauses for checkpoints",
    "hang": "hangs",
    "stopped": "suspended",
}
_REST = "evaluations, slow steps, and what is not known"
_LEAST = 0.01  # the smallest share of the rest that is shown
_ENDED = (ConditionType.COMPLETE, ConditionType.FAILED, ConditionType.SUSPENDED)


def lost_time(status: Status, now: datetime) -> Iterator[str]:
    """Yield the lines; none if nothing is known.

    Args:
        status: the status of the job.
        now: the current time.
    """
    goodput = status.goodput
    if goodput is None or goodput.start_time is None:
        return
    whole = (_until(status, now) - parse_time(goodput.start_time)).total_seconds()
    parts = _parts(goodput, whole)
    if whole <= 0 or not parts:
        return
    useful = goodput.productive_seconds
    first = "" if useful is None else f", {_share(useful, whole)} of it in steps that count"
    yield f"  {age(whole)} since the start{first}"
    for seconds, what in sorted(parts, reverse=True):
        yield f"  {age(seconds)} ({_share(seconds, whole)}): {what}"


def _parts(goodput: Goodput, whole: float) -> list[tuple[float, str]]:
    """Return the seconds that were lost, with their causes."""
    known = ((getattr(goodput.lost, name), what) for name, what in CAUSES.items())
    parts = [(seconds, what) for seconds, what in known if seconds is not None and seconds >= 1]
    if goodput.productive_seconds is None:
        return parts
    rest = whole - goodput.productive_seconds - sum(seconds for seconds, _ in parts)
    return [*parts, (rest, _REST)] if rest > _LEAST * whole and rest >= 1 else parts


def _until(status: Status, now: datetime) -> datetime:
    """Return the end of the time: when the job has finished, or was suspended, or now."""
    ends = (status.condition(type_) for type_ in _ENDED)
    held = [one for one in ends if one is not None and one.status == "True"]
    return parse_time(held[0].last_transition_time) if held else now


def _share(seconds: float, whole: float) -> str:
    return f"{min(100, round(100 * seconds / whole))}%"
