"""Runs the commands about jobs of a cluster: connects, and hands on what the user has given."""

import argparse
import sys
from dataclasses import replace

from acceleratedjob.api.times import utc_now
from acceleratedjob.commands import log_reader, table
from acceleratedjob.commands.checkpoints import checkpoints
from acceleratedjob.commands.dump import dump
from acceleratedjob.commands.log_choice import choose, mixed
from acceleratedjob.commands.session import Session, exit_code
from acceleratedjob.commands.stopping import resume, stop
from acceleratedjob.commands.watching import display, watch
from acceleratedjob.commands.why import why
from acceleratedjob.errors import ClusterError, NotFound
from acceleratedjob.exits import EXIT_NOT_FOUND, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.kube.client import connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.in_cluster import OWN_NAMESPACE, own_namespace
from acceleratedjob.kube.kubeconfig import find
from acceleratedjob.terminal import plain


async def run(name: str, options: argparse.Namespace) -> int:
    """Run a command, and return its exit code; errors are printed."""
    commands = {
        "why": _why,
        "status": _status,
        "logs": _logs,
        "stop": _stop,
        "resume": _resume,
        "dump": _dump,
        "checkpoints": _checkpoints,
    }
    try:
        configuration = await load_configuration(options.kubeconfig, options.context)
        options.namespace = options.namespace or _usual_namespace(options)
        async with connect(configuration) as connection:
            cluster = KubernetesCluster(connection, options.namespace)
            return await commands[name](options, Session(cluster, options.namespace, options.job))
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


async def _why(_: argparse.Namespace, session: Session) -> int:
    job = await session.read()
    print("\n".join(why(job, utc_now())))
    return exit_code(job)


async def _status(options: argparse.Namespace, session: Session) -> int:
    every = options.all_namespaces
    if session.name is not None and every:
        raise ValueError("a job is in one namespace: do not use -A with JOB")
    if every:
        session = replace(session, cluster=KubernetesCluster(session.cluster.connection, None))
    jobs = [await session.read()] if session.name is not None else await session.list()
    if options.watch:
        return await watch(session, display(sys.stdout, namespaces=every))
    rows = [table.row(job, utc_now(), namespaces=every) for job in jobs]
    print("\n".join(table.table(rows, namespaces=every)) if rows else "No jobs found.")
    return exit_code(jobs[0]) if session.name is not None else 0


async def _logs(options: argparse.Namespace, session: Session) -> int:
    job = await session.read()
    choice = choose(
        job, rank=options.rank, replica=options.replica, previous=options.previous_attempt
    )
    sentence = "" if options.rank is None else mixed(choice, options.rank)
    if sentence:
        print(f"acceleratedjob logs: {sentence}", file=sys.stderr)
    reader = log_reader.Reader(
        connection=session.cluster.connection,
        namespace=session.namespace,
        choice=choice,
        uid=job["metadata"]["uid"],
        colour=log_reader.wants_colour(options.color, sys.stdout),
    )
    await (reader.follow() if options.follow else reader.show())
    return 0


async def _stop(options: argparse.Namespace, session: Session) -> int:
    return await stop(session, within=options.timeout, force=options.force)


async def _resume(options: argparse.Namespace, session: Session) -> int:
    return await resume(session, wait=options.wait, within=options.timeout)


async def _dump(_: argparse.Namespace, session: Session) -> int:
    return await dump(session)


async def _checkpoints(_: argparse.Namespace, session: Session) -> int:
    return await checkpoints(session)
