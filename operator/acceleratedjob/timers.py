"""When to look at a job again though nothing has changed."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob import deadlines
from acceleratedjob.api import Reason, parse_time
from acceleratedjob.situation import UNSCHEDULABLE_PATIENCE
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status
from acceleratedjob.waits import CANNOT_START


def due(spec: JobSpec, status: Status) -> Iterator[datetime]:
    """The times at which a status alone makes the next plan another one."""
    if status.finished:
        yield from _known(deadlines.deletion(spec, status))
        return
    yield from _known(deadlines.active(spec, status), deadlines.startup(spec, status))
    for wait in status.waits:
        if wait.reason in CANNOT_START:
            yield parse_time(wait.since) + CANNOT_START[wait.reason]
        elif wait.reason == Reason.UNSCHEDULABLE and spec.elastic is not None:
            yield parse_time(wait.since) + UNSCHEDULABLE_PATIENCE


def _known(*times: datetime | None) -> Iterator[datetime]:
    return (time for time in times if time is not None)
