"""Formats the progress of a training as one line for a terminal."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api.times import age, parse_time
from acceleratedjob.commands.text import fitted
from acceleratedjob.observe.progress import Progress
from acceleratedjob.terminal import plain

_MINUTE, _HOUR = 60, 3600
_SMALL = 10  # a smaller rate has decimal places

# The parts in the order in which they are left out, if the line would be too long.
_OPTIONAL = ("checkpoint", "samples", "epoch", "loss", "percent", "eta")


def bar(progress: Progress, *, name: str, width: int, now: datetime) -> str:
    """Return the line.

    Args:
        progress: what is known.
        name: the name of the job, which comes first.
        width: the largest number of characters.
        now: the time, for the age of the checkpoint.
    """
    parts = {"name": plain(name), **dict(_parts(progress, now))}
    return fitted(parts, _OPTIONAL, width)


def _parts(progress: Progress, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the parts that are known, in the order of the line."""
    if progress.epoch is not None:
        yield "epoch", f"epoch {_of(progress.epoch, progress.epochs)}"
    if progress.step is not None:
        yield "step", f"step {_of(progress.step, progress.total_steps)}"
    if progress.percent is not None:
        yield "percent", f"{progress.percent}%"
    if progress.eta_seconds is not None:
        yield "eta", f"ETA {_clock(progress.eta_seconds)}"
    if progress.samples_per_second is not None:
        yield "samples", f"{_rate(progress.samples_per_second)} samples/s"
    if progress.loss is not None:
        yield "loss", f"loss {progress.loss:.3g}"
    saved = progress.checkpoint
    if saved is not None:
        ago = age((now - parse_time(saved.time)).total_seconds())
        yield "checkpoint", f"checkpoint at step {saved.step:,} ({ago} ago)"


def _of(part: int, whole: int | None) -> str:
    return f"{part:,}" if whole is None else f"{part:,}/{whole:,}"


def _rate(value: float) -> str:
    return f"{value:.2g}" if value < _SMALL else f"{value:,.0f}"


def _clock(seconds: float) -> str:
    """Format a duration as a clock does.

    >>> [_clock(seconds) for seconds in (12.9, 754, 3723, 200000)]
    ['0:12', '12:34', '1:02:03', '55:33:20']
    """
    hours, rest = divmod(int(seconds), _HOUR)
    minutes, left = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
