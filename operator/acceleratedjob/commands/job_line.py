"""Formats a job as one line for a terminal, with a bar."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api.names import View
from acceleratedjob.commands import table
from acceleratedjob.commands.text import fitted, wrapped

_BAR = 20  # characters
# The parts in the order in which they are left out, if the line would be too long.
_OPTIONAL = (
    *("bar", "samples", "epoch", "restarts", "checkpoint", "goodput", "loss"),
    *("eta", "step", "ready", "phase"),
)


def job_line(job: View, now: datetime, *, width: int, gone: bool = False, space: str = "") -> str:
    """Return the line.

    Args:
        job: the job.
        now: the time, for the age of the checkpoint.
        width: the largest number of characters.
        gone: whether the job was deleted.
        space: the namespace, if the lines are of several.
    """
    parts = dict(_parts(table.cells(job, now, gone=gone), space))
    return fitted(parts, _OPTIONAL, width)


def job_lines(
    job: View, now: datetime, *, width: int, gone: bool = False, space: str = ""
) -> list[str]:
    """Return the line of a job, and one for each condition that a person must see."""
    told = [f"  {type_}: {message}" for type_, message in table.notes(job)]
    return [job_line(job, now, width=width, gone=gone, space=space), *wrapped(told, width=width)]


def bar(percent: str) -> str:
    """Return a bar.

    >>> bar("50%"), bar("")
    ('[##########..........]', '')
    """
    if not percent.rstrip("%").isdecimal():
        return ""
    done = min(_BAR, _BAR * int(percent.rstrip("%")) // 100)
    return f"[{'#' * done}{'.' * (_BAR - done)}]"


def _parts(cells: dict[str, str], space: str) -> Iterator[tuple[str, str]]:
    """Yield the parts that are known, in the order of the line."""
    known = {name: value for name, value in cells.items() if value}
    yield "name", f"{space}/{cells['NAME']}" if space else cells["NAME"]
    for name, column, form in _FORMS:
        if column in known:
            yield name, form.format(**known | {"BAR": bar(cells["PROGRESS"])})


_FORMS = (  # part, the column that must be known, how it is shown
    ("phase", "PHASE", "{PHASE}"),
    ("ready", "READY", "{READY}"),
    ("bar", "PROGRESS", "{BAR}"),
    ("percent", "PROGRESS", "{PROGRESS}"),
    ("epoch", "EPOCH", "epoch {EPOCH}"),
    ("step", "STEP", "step {STEP}"),
    ("eta", "ETA", "ETA {ETA}"),
    ("samples", "SAMPLES/S", "{SAMPLES/S} samples/s"),
    ("loss", "LOSS", "loss {LOSS}"),
    ("goodput", "GOODPUT", "goodput {GOODPUT}"),
    ("checkpoint", "SAVED", "checkpoint {SAVED} ago"),
    ("restarts", "RESTARTS", "restarts {RESTARTS}"),
    ("verdicts", "VERDICTS", "{VERDICTS}"),
)
