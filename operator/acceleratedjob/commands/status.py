"""`acceleratedjob status`: lists jobs, or follows them."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from acceleratedjob.api.names import View
from acceleratedjob.api.times import utc_now
from acceleratedjob.commands import table
from acceleratedjob.commands.objects import print_object, print_objects
from acceleratedjob.commands.screen import print_table, terminal_width
from acceleratedjob.commands.session import Session, exit_code
from acceleratedjob.commands.watching import display, watch
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.terminal import say

WIDE = "wide"


async def status(session: Session, *, everywhere: bool, follow: bool, form: str | None) -> int:
    """Print jobs, and return the exit code: whether the single job has failed.

    Args:
        session: a job, or all jobs.
        everywhere: whether the jobs of all namespaces are printed.
        follow: whether changes are printed, too.
        form: `json`, `yaml` or `wide`; None for the usual columns.
    """
    if everywhere:
        session = replace(session, cluster=KubernetesCluster(session.cluster.connection, None))
    if follow:
        if session.name is not None:
            await session.read()  # a missing job is an error at once
        return await watch(session, display(sys.stdout, namespaces=everywhere, form=form))
    jobs = [await session.read()] if session.name is not None else await session.list()
    if form in (None, WIDE):
        _print_rows(session, jobs, everywhere=everywhere, is_wide=form == WIDE)
    elif session.name is not None:
        print_object(jobs[0], form, sys.stdout)
    else:
        print_objects(jobs, form, sys.stdout)
    return exit_code(jobs[0]) if session.name is not None else 0


def _print_rows(session: Session, jobs: Sequence[View], *, everywhere: bool, is_wide: bool) -> None:
    if not jobs:
        place = "" if everywhere else f" in namespace {session.namespace}; -A lists all"
        say(f"No jobs found{place}.")
        return
    now, columns = utc_now(), table.WIDE if is_wide else table.HEADER
    rows = [table.row(one, now, namespaces=everywhere, columns=columns) for one in jobs]
    rows.insert(0, table.header(namespaces=everywhere, columns=columns))
    print_table(rows if is_wide else table.fitting(rows, terminal_width(sys.stdout)), sys.stdout)
