"""When to look at a job again though nothing has changed."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.causes import CANNOT_START
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status


def due(_spec: JobSpec, status: Status) -> Iterator[datetime]:
    """The times at which a status alone makes the next plan another one."""
    if status.finished:
        return
    for entry in status.pending:
        since = status.waiting_since(entry.reason)
        if since is not None and entry.reason in CANNOT_START:
            yield since + CANNOT_START[entry.reason]
