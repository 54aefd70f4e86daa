"""Runs `why`, `status` and `logs`: reads from a cluster, and prints the result."""

import argparse
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from acceleratedjob.api import names
from acceleratedjob.api.names import ConditionType, View
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed, Gone, Listed, Ref
from acceleratedjob.commands import log_reader, table
from acceleratedjob.commands.log_choice import choose, mixed
from acceleratedjob.commands.text import aligned
from acceleratedjob.commands.why import why
from acceleratedjob.errors import ClusterError, NotFound
from acceleratedjob.exits import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.kube.client import connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.in_cluster import OWN_NAMESPACE, own_namespace
from acceleratedjob.kube.kubeconfig import find
from acceleratedjob.terminal import plain

_WIDTHS = (24, 10, 7, 12, 8, 6, 8, 6)  # minimum widths of the columns with --watch


async def run(name: str, options: argparse.Namespace) -> int:
    """Run a command, and return its exit code; errors are printed."""
    commands = {"why": _why, "status": _status, "logs": _logs}
    try:
        configuration = await load_configuration(options.kubeconfig, options.context)
        options.namespace = options.namespace or _usual_namespace(options)
        async with connect(configuration) as connection:
            return await commands[name](options, KubernetesCluster(connection, options.namespace))
    except ValueError as error:
        return _fail(name, error, EXIT_USAGE)
    except NotFound as error:
        return _fail(name, error, EXIT_NOT_FOUND)
    except ClusterError as error:
        return _fail(name, error, EXIT_UNAVAILABLE)


def _fail(name: str, error: Exception, code: int) -> int:
    print(plain(f"acceleratedjob {name}: {error}"), file=sys.stderr)
    return code


def _usual_namespace(options: argparse.Namespace) -> str:
    """Return the namespace that kubectl would use: that of the context, or that of the pod."""
    if options.kubeconfig is None and options.context is None and OWN_NAMESPACE.exists():
        return own_namespace()
    return find(options.kubeconfig, options.context).namespace


async def _read(options: argparse.Namespace, cluster: KubernetesCluster) -> View:
    return await cluster.read(Ref(names.KIND, options.namespace, options.job))


async def _list(cluster: KubernetesCluster) -> list[View]:
    return [job async for page in cluster.list(names.KIND) for job in page.objects]


def _exit_code(job: View) -> int:
    return EXIT_FAILED if Status.from_manifest(job).holds(ConditionType.FAILED) else 0


async def _why(options: argparse.Namespace, cluster: KubernetesCluster) -> int:
    job = await _read(options, cluster)
    print("\n".join(why(job, datetime.now(UTC))))
    return _exit_code(job)


async def _status(options: argparse.Namespace, cluster: KubernetesCluster) -> int:
    if options.job is not None and options.all_namespaces:
        raise ValueError("a job is in one namespace: do not use -A with JOB")
    if options.all_namespaces:
        cluster = KubernetesCluster(cluster.connection, None)
    if options.watch:
        await (_read(options, cluster) if options.job else _list(cluster))
        return await _watch(options, cluster)
    if options.job is not None:
        jobs: list[View] = [await _read(options, cluster)]
    else:
        jobs = await _list(cluster)
    every, now = options.all_namespaces, datetime.now(UTC)
    rows = [table.row(job, now, namespaces=every) for job in jobs]
    print("\n".join(table.table(rows, namespaces=every)) if rows else "No jobs found.")
    return _exit_code(jobs[0]) if options.job is not None else 0


async def _watch(options: argparse.Namespace, cluster: KubernetesCluster) -> int:
    """Print a line for each change; a single job is followed until it has finished."""
    every = options.all_namespaces
    widths = (16, *_WIDTHS) if every else _WIDTHS
    print(*aligned([table.header(namespaces=every)], widths), flush=True)
    shown: dict[str, table.Row] = {}
    async for job, gone in _changes(cluster):
        if options.job not in (None, job["metadata"]["name"]):
            continue
        row = table.row(job, datetime.now(UTC), namespaces=every, gone=gone)
        uid = job["metadata"]["uid"]
        if shown.get(uid) != row[:-1]:  # without the age, which always changes
            shown[uid] = row[:-1]
            print(*aligned([row], widths), flush=True)
        if options.job is not None and gone:
            raise NotFound(f"{options.job} was deleted")
        if options.job is not None and Status.from_manifest(job).finished:
            return _exit_code(job)
    raise AssertionError  # a watch does not end


async def _changes(cluster: KubernetesCluster) -> AsyncIterator[tuple[View, bool]]:
    """Yield every job, and then each change, with whether the job was deleted."""
    async for change in cluster.watch(names.KIND):
        match change:
            case Listed(objects):
                for job in objects:
                    yield job, False
            case Changed(job):
                yield job, False
            case Gone(job):
                yield job, True


async def _logs(options: argparse.Namespace, cluster: KubernetesCluster) -> int:
    job = await _read(options, cluster)
    choice = choose(
        job, rank=options.rank, replica=options.replica, previous=options.previous_attempt
    )
    sentence = "" if options.rank is None else mixed(choice, options.rank)
    if sentence:
        print(f"acceleratedjob logs: {sentence}", file=sys.stderr)
    reader = log_reader.Reader(
        connection=cluster.connection,
        namespace=options.namespace,
        choice=choice,
        uid=job["metadata"]["uid"],
        colour=log_reader.wants_colour(options.color, sys.stdout),
    )
    await (reader.follow() if options.follow else reader.show())
    return 0
