"""`acceleratedjob status`: formats jobs as a table, as kubectl does."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from acceleratedjob.api.names import ConditionType, View
from acceleratedjob.api.times import age, is_time, parse_time
from acceleratedjob.terminal import plain

# The columns of the table, and of the lines that --watch prints.
HEADER = ("NAME", "PHASE", "READY", "STEP", "PROGRESS", "ETA", "GOODPUT", "RESTARTS", "AGE")
WATCHED = (*HEADER[:-2], "SAMPLES/S", "CHECKPOINT", "RESTARTS", "VERDICTS")
WIDE = (
    *(*HEADER[:4], "EPOCH", *HEADER[4:8], "IN-PLACE", *HEADER[8:]),
    *("SAMPLES/S", "LOSS", "CHECKPOINT", "SAVED", "VERDICTS"),
)
VERDICTS = (ConditionType.HANGING, ConditionType.STRAGGLING, ConditionType.DIVERGED)
# The columns in the order in which they are left out, if the table would be too wide.
_OPTIONAL = ("AGE", "RESTARTS", "GOODPUT", "ETA", "READY", "STEP", "PROGRESS")
GAP = 3  # characters between two columns
_SMALL = 10  # a smaller rate has decimal places
Row = tuple[str, ...]


def row(
    job: View,
    now: datetime,
    *,
    namespaces: bool = False,
    gone: bool = False,
    columns: Row = HEADER,
) -> Row:
    """Return the cells of a job; unknown values are empty."""
    known = cells(job, now, gone=gone)
    return tuple(known[name] for name in header(namespaces=namespaces, columns=columns))


def header(*, namespaces: bool = False, columns: Row = HEADER) -> Row:
    """Return the names of the columns."""
    return ("NAMESPACE", *columns) if namespaces else columns


def fitting(rows: Sequence[Row], width: int) -> list[Row]:
    """Return rows, of which the first one is the header, without the columns that do not fit.

    >>> fitting([("NAME", "ETA", "AGE"), ("digits", "1h", "2d")], width=12)
    [('NAME', 'ETA'), ('digits', '1h')]
    """
    columns = list(zip(*rows, strict=True))
    for name in _OPTIONAL:
        if sum(max(map(len, column)) + GAP for column in columns) - GAP > width:
            columns = [column for column in columns if column[0] != name]
    return list(zip(*columns, strict=True))


def cells(job: View, now: datetime, *, gone: bool = False) -> dict[str, str]:
    """Return what can be said of a job, by the names of the columns; unknown values are empty."""
    metadata, status = job["metadata"], job.get("status") or {}
    progress, saved = _section(status, "progress"), _section(status, "checkpoint")
    found = {
        "NAMESPACE": metadata["namespace"],
        "NAME": metadata["name"],
        "PHASE": "Deleted" if gone else status.get("phase") or "",
        "READY": status.get("readyRatio") or "",
        "STEP": _of(progress, "step", "totalSteps"),
        "EPOCH": _of(progress, "epoch", "epochs"),
        "PROGRESS": _with(progress.get("percent"), "{}%"),
        "ETA": _eta(progress.get("etaSeconds")),
        "SAMPLES/S": _rate(progress.get("samplesPerSecond")),
        "LOSS": _loss(progress.get("loss")),
        "GOODPUT": _with(_section(status, "shown").get("goodput"), "{}"),
        "CHECKPOINT": _with(saved.get("step"), "{}"),
        "SAVED": _since(saved.get("time"), now),
        "RESTARTS": str(status.get("restarts", 0)),
        "IN-PLACE": str(status.get("restartsInPlace", 0)),
        "VERDICTS": ",".join(type_ for type_, _ in notes(job) if type_ in VERDICTS),
        "AGE": _since(metadata["creationTimestamp"], now),
    }
    return {name: plain(str(value)) for name, value in found.items()}


def notes(job: View) -> list[tuple[str, str]]:
    """Return the conditions that a person must see, with their messages."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    shown = (*VERDICTS, ConditionType.FAILED)
    return [
        (str(one["type"]), " ".join(plain(str(one.get("message") or "")).split()))
        for one in conditions
        if one.get("type") in shown and one.get("status") == "True"
    ]


def _section(status: View, name: str) -> View:
    found = status.get(name)
    return found if isinstance(found, Mapping) else {}


def _of(progress: View, part: str, whole: str) -> str:
    done, total = progress.get(part), progress.get(whole)
    return _with(done, "{}") if total is None else _with(done, f"{{}}/{total}")


def _with(value: object, form: str) -> str:
    return "" if value is None else form.format(value)


def _eta(seconds: object) -> str:
    return age(seconds) if isinstance(seconds, int | float) else ""


def _rate(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.2g}" if value < _SMALL else f"{value:.0f}"


def _loss(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else _with(value, "{}")


def _since(time: object, now: datetime) -> str:
    if not isinstance(time, str) or not is_time(time):
        return ""
    return age((now - parse_time(time)).total_seconds())
