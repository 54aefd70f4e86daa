"""The operator's process: its log, its connection, and the parts that work side by side.

Its life has an order. Watches fill the caches from the start, leader or not. Passes begin when it
may write. Asked to end, it lets the passes under way come to theirs, gives the lease back, and only
then stops the rest: another operator goes on at once, and never beside this one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from acceleratedjob import api
from acceleratedjob.cluster import WATCHED
from acceleratedjob.errors import Unreachable
from acceleratedjob.exits import EXIT_LEASE_LOST, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.kube.arrival import arrive
from acceleratedjob.kube.connection import Connection, connect, load_configuration
from acceleratedjob.kube.deadline import end_within
from acceleratedjob.kube.election import Election, LeaseLost, Unopposed
from acceleratedjob.kube.handlers import Handlers
from acceleratedjob.kube.http import CannotListenError, Pages, serving
from acceleratedjob.kube.logs import configure_logging
from acceleratedjob.kube.objects import KubernetesCluster, collection
from acceleratedjob.kube.options import Options
from acceleratedjob.kube.pace import Limit, Pace
from acceleratedjob.kube.pulse import Pulse
from acceleratedjob.kube.refresh import resync, take_over
from acceleratedjob.kube.watching import watch_jobs
from acceleratedjob.reconciler import Reconciler

log = logging.getLogger(__name__)

STOP_SECONDS = 3  # for passes under way; then they are left to the next operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What works side by side; by namespace, where None is all of them."""

    connection: Connection
    election: Election | Unopposed
    pulse: Pulse
    clusters: Mapping[str | None, KubernetesCluster]
    reconcilers: Mapping[str | None, Reconciler]

    def pages(self) -> Pages:
        """What is told of them over HTTP."""
        reconcilers = tuple(self.reconcilers.values())
        return Pages(self.pulse, reconcilers, leading=lambda: self.election.leading)

    def handlers(self) -> Handlers:
        """What kopf calls."""
        link = self.connection
        return Handlers(link.configuration, self.reconcilers, self.pulse, link.contact)


def main(options: Options) -> int:
    """Serve a cluster's jobs until a signal asks to stop; the exit code."""
    configure_logging(options.log_format, options.log_level)
    try:
        asyncio.run(run(options))
    except asyncio.CancelledError:  # it was asked to end before it has begun
        return 0
    except Unreachable as error:
        log.critical("%s", error)
        return EXIT_UNAVAILABLE
    except CannotListenError as error:
        log.critical("%s", error)
        return EXIT_USAGE
    finally:
        logging.shutdown()
    return 0


async def run(options: Options) -> None:
    """Connect, serve, and give the lease back whatever happens.

    Raises:
        Unreachable: the cluster, as things are.
        CannotListenError: on the port for HTTP.
    """
    _heed_signals()
    configuration = await load_configuration(options.kubeconfig, options.context)
    async with connect(configuration, options.limit) as connection:
        parts = assemble(options, connection)
        async with serving(parts.pages(), options.http_port):
            await arrive(connection, parts.pulse, first_path(options))
            try:
                await serve(parts, options)
            finally:
                await parts.election.release()


def first_path(options: Options) -> str:
    """The path of jobs that can be listed where the operator can work at all."""
    return collection(api.KIND, next(iter(options.namespaces), None))


def assemble(options: Options, connection: Connection) -> Parts:
    """The parts of an operator, ready to be started."""
    election: Election | Unopposed = Unopposed()
    if options.leader_elect:
        election = Election(
            connection=replace(connection, pace=Pace(Limit(in_flight=1))),
            namespace=options.lease_namespace,
            name=options.lease_name,
            terms=options.terms,
        )
    served = options.namespaces or (None,)
    watched = (collection(kind, each) for each in served for kind in (api.KIND, *WATCHED))
    pulse = Pulse(watched, silence=options.watch_silence)
    clusters = {
        namespace: KubernetesCluster(
            connection, namespace, may_write=lambda: election.leading, pulse=pulse
        )
        for namespace in served
    }
    return Parts(
        connection=connection,
        election=election,
        pulse=pulse,
        clusters=clusters,
        reconcilers={name: Reconciler(cluster) for name, cluster in clusters.items()},
    )


async def serve(parts: Parts, options: Options) -> None:
    """Run all parts until a signal asks to end, or until one of them fails."""
    stop, handlers = asyncio.Event(), parts.handlers()
    _heed_signals(stop)
    kopfs = watch_jobs(
        handlers,
        options.namespaces,
        ready=partial(arrive, parts.connection, parts.pulse, first_path(options)),
        begun=partial(_heed_signals, stop),  # kopf's own way of ending leaves passes half done
    )
    works: list[Coroutine[Any, Any, None]] = [each.watch() for each in parts.reconcilers.values()]
    works += [_take_part(parts.election), _work(parts)]
    for namespace, reconciler in parts.reconcilers.items():
        wanted = handlers.relisted[collection(api.KIND, namespace)]
        works.append(resync(parts.clusters[namespace], reconciler, wanted))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(kopfs)
        ours = [tasks.create_task(work) for work in works]
        await stop.wait()
        log.info("asked to end")
        await _finish(parts, ours)
        watching.cancel()


async def _finish(parts: Parts, tasks: list[asyncio.Task[None]]) -> None:
    """Let the passes under way end, and then the rest of us."""
    stopping = [asyncio.create_task(each.stop()) for each in parts.reconcilers.values()]
    await asyncio.wait(stopping, timeout=STOP_SECONDS)
    for task in (*stopping, *tasks):
        task.cancel()
    await asyncio.wait((*stopping, *tasks))
    await parts.election.release()


async def _take_part(election: Election | Unopposed) -> None:
    """Take part in the election; where the lease is lost, nothing of this process may go on."""
    try:
        await election.run()
    except LeaseLost as error:
        log.critical("%s; this process ends, another one may write", error)
        logging.shutdown()
        os._exit(EXIT_LEASE_LOST)


async def _work(parts: Parts) -> None:
    """Work on all jobs from when it is allowed."""
    await parts.election.won.wait()
    async with asyncio.TaskGroup() as tasks:
        for namespace, reconciler in parts.reconcilers.items():
            if isinstance(parts.election, Election):
                await take_over(parts.clusters[namespace], reconciler)
            tasks.create_task(reconciler.work())


def _heed_signals(stop: asyncio.Event | None = None) -> None:
    """Begin to end when asked, the calling task at once if nothing else; and be done in time."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        end_within(loop)
        if stop is not None:
            stop.set()
        elif me is not None:
            me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
