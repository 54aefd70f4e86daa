"""The operator's process: its log, its connection, and the parts that work side by side.

Its life has an order. Watches fill the caches from the start, leader or not. Passes begin when it
may write. Asked to end, it lets the passes under way come to theirs, gives the lease back, and only
then stops the rest: another operator goes on at once, and never beside this one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import kopf

from acceleratedjob import api
from acceleratedjob.cluster import WATCHED
from acceleratedjob.errors import ClusterError, NoAnswer, Unreachable
from acceleratedjob.exits import EXIT_LEASE_LOST, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.kube.arrival import arrive
from acceleratedjob.kube.connection import Connection, connect, load_configuration
from acceleratedjob.kube.deadline import end_within
from acceleratedjob.kube.election import Election, LeaseLost, Unopposed
from acceleratedjob.kube.handlers import Handlers, settings
from acceleratedjob.kube.http import CannotListenError, Pages, serving
from acceleratedjob.kube.logs import configure_logging
from acceleratedjob.kube.objects import KubernetesCluster, collection
from acceleratedjob.kube.options import Options
from acceleratedjob.kube.pace import Limit, Pace
from acceleratedjob.kube.pulse import Pulse
from acceleratedjob.queue import Backoff
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
            jobs = collection(api.KIND, next(iter(options.namespaces), None))
            await arrive(connection, parts.pulse, jobs)
            try:
                await serve(parts, options)
            finally:
                await parts.election.release()


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
    before, stop = asyncio.all_tasks(), asyncio.Event()
    roots = await kopf.spawn_tasks(
        registry=parts.handlers().registry(),
        settings=settings(parts.pulse),
        namespaces=options.namespaces,
        clusterwide=not options.namespaces,
        standalone=True,
    )
    _heed_signals(stop)  # kopf has its own way of ending, which would leave passes half done
    async with asyncio.TaskGroup() as tasks:
        kopfs = tasks.create_task(_serve_kopf(roots, before))
        ours = [tasks.create_task(each.watch()) for each in parts.reconcilers.values()]
        ours.append(tasks.create_task(_take_part(parts.election)))
        ours.append(tasks.create_task(_work(parts)))
        await stop.wait()
        log.info("asked to end")
        await _finish(parts, ours)
        kopfs.cancel()  # asked by its stop flag, it would wait for its own requests


async def _finish(parts: Parts, tasks: list[asyncio.Task[None]]) -> None:
    """Let the passes under way end, and then the rest of us."""
    stopping = [asyncio.create_task(each.stop()) for each in parts.reconcilers.values()]
    await asyncio.wait(stopping, timeout=STOP_SECONDS)
    for task in (*stopping, *tasks):
        task.cancel()
    await asyncio.wait((*stopping, *tasks))
    await parts.election.release()


async def _serve_kopf(
    roots: Collection[asyncio.Task[None]], before: set[asyncio.Task[None]]
) -> None:
    await kopf.run_tasks(roots, ignored=before)
    raise RuntimeError("kopf's watch of the jobs has ended, and nobody asked for it")


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
                await refresh(parts.clusters[namespace], reconciler)
            tasks.create_task(reconciler.work())


async def refresh(cluster: KubernetesCluster, reconciler: Reconciler) -> None:
    """Read what the last leader has left: a watch may be behind it.

    The jobs come first, so that no pod is seen older than the status that counts it.
    """
    backoff = Backoff(initial=0.5, maximum=10)
    while True:
        try:
            for kind in (api.KIND, *WATCHED):
                async for page in cluster.list(kind):
                    reconciler.take(kind, page)
        except ClusterError as error:
            if isinstance(error, NoAnswer):
                cluster.connection.contact.lost(error)
            else:
                log.warning("taking over: %s", error)
            await asyncio.sleep(backoff.next("refresh"))
        else:
            return


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
