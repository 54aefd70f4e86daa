"""`acceleratedjob status`: formats jobs as a table, as kubectl does."""

from collections.abc import Mapping
from datetime import datetime

from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.commands.text import age, aligned
from acceleratedjob.terminal import plain

HEADER = ("NAME", "PHASE", "READY", "STEP", "PROGRESS", "ETA", "RESTARTS", "AGE")
Row = tuple[str, ...]


def row(job: View, now: datetime, *, namespaces: bool = False, gone: bool = False) -> Row:
    """Return the cells of a job; unknown values are empty."""
    metadata, status = job["metadata"], job.get("status") or {}
    found = status.get("progress")
    progress = found if isinstance(found, Mapping) else {}
    old = age((now - parse_time(metadata["creationTimestamp"])).total_seconds())
    cells = (
        metadata["name"],
        "Deleted" if gone else status.get("phase") or "",
        status.get("readyRatio") or "",
        _step(progress),
        _with(progress.get("percent"), "{}%"),
        _eta(progress.get("etaSeconds")),
        str(status.get("restarts", 0)),
        old,
    )
    return tuple(map(plain, (metadata["namespace"], *cells) if namespaces else cells))


def header(*, namespaces: bool = False) -> Row:
    """Return the names of the columns."""
    return ("NAMESPACE", *HEADER) if namespaces else HEADER


def table(rows: list[Row], *, namespaces: bool = False) -> list[str]:
    """Return the lines of a table of all jobs."""
    return aligned([header(namespaces=namespaces), *rows])


def _step(progress: View) -> str:
    step, total = progress.get("step"), progress.get("totalSteps")
    return _with(step, "{}") if total is None else _with(step, f"{{}}/{total}")


def _with(value: object, form: str) -> str:
    return "" if value is None else form.format(value)


def _eta(seconds: object) -> str:
    return age(seconds) if isinstance(seconds, int | float) else ""
