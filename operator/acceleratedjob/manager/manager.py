"""The process of the operator: starts its parts, and stops them in order.

The watches fill the caches from the start, whether or not this process is the leader. Reconciles
start when it becomes the leader. On SIGTERM it waits for running reconciles to finish, releases the
lease, and then stops the rest: another operator takes over immediately, and the two never write at
the same time.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.cluster import WATCHED
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.cadence import Turns
from acceleratedjob.controller.polling.poller import Poller
from acceleratedjob.errors import Unreachable
from acceleratedjob.exits import EXIT_LEASE_LOST, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.kube.client import Connection, connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.limits import Limit
from acceleratedjob.kube.ratelimit import Pace
from acceleratedjob.manager.flags import Options
from acceleratedjob.manager.job_watch import watch_jobs
from acceleratedjob.manager.jobs import Handlers
from acceleratedjob.manager.leaderelection import Election, LeaseLost, Unopposed
from acceleratedjob.manager.logformat import configure_logging
from acceleratedjob.manager.preflight import arrive
from acceleratedjob.manager.refresh import resync, take_over
from acceleratedjob.manager.server import CannotListenError, Pages, serving
from acceleratedjob.manager.shutdown import end_within

log = logging.getLogger(__name__)

STOP_SECONDS = 3  # the wait for running reconciles; the next operator completes interrupted ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that run concurrently; mappings are by namespace, where None stands for all.

    Attributes:
        connection: the connection to the API server.
        election: the leader election.
        pulse: when each watch last received something.
        clusters: the clusters.
        controllers: the controllers.
    """

    connection: Connection
    election: Election | Unopposed
    pulse: Pulse
    clusters: Mapping[str | None, KubernetesCluster]
    controllers: Mapping[str | None, Controller]

    def pages(self) -> Pages:
        """Return the HTTP pages about these parts."""
        controllers = tuple(self.controllers.values())
        return Pages(self.pulse, controllers, leading=lambda: self.election.leading)

    def handlers(self) -> Handlers:
        """Return the handlers that kopf calls."""
        link = self.connection
        return Handlers(link.configuration, self.controllers, self.pulse, link.contact)


def main(options: Options) -> int:
    """Run the operator until SIGTERM or SIGINT, and return the exit code."""
    configure_logging(options.log_format, options.log_level)
    try:
        asyncio.run(run(options))
    except asyncio.CancelledError:  # a signal arrived before `serve`
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
    """Connect and serve; the lease is always released at the end.

    Raises:
        Unreachable: the kubeconfig or a certificate is invalid.
        CannotListenError: the HTTP port cannot be opened.
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
    """Return the path of a collection of jobs that the operator must be able to list."""
    return collection(names.KIND, next(iter(options.namespaces), None))


def assemble(options: Options, connection: Connection) -> Parts:
    """Create the parts of an operator."""
    election: Election | Unopposed = Unopposed()
    if options.leader_elect:
        election = Election(
            connection=replace(connection, pace=Pace(Limit(in_flight=1))),
            namespace=options.lease_namespace,
            name=options.lease_name,
            terms=options.terms,
        )
    served = options.namespaces or (None,)
    watched = (collection(kind, each) for each in served for kind in (names.KIND, *WATCHED))
    pulse = Pulse(watched, silence=options.watch_silence)
    clusters = {
        namespace: KubernetesCluster(
            connection, namespace, may_write=lambda: election.leading, pulse=pulse
        )
        for namespace in served
    }
    turns = Turns()
    return Parts(
        connection=connection,
        election=election,
        pulse=pulse,
        clusters=clusters,
        controllers={name: Controller(cluster, turns=turns) for name, cluster in clusters.items()},
    )


async def serve(parts: Parts, options: Options) -> None:
    """Run all parts until a signal arrives, or until one of them fails."""
    stop, handlers = asyncio.Event(), parts.handlers()
    _heed_signals(stop)
    kopfs = watch_jobs(
        handlers,
        options.namespaces,
        ready=partial(arrive, parts.connection, parts.pulse, first_path(options)),
        begun=partial(_heed_signals, stop),  # kopf's handlers would interrupt reconciles
    )
    works: list[Coroutine[Any, Any, None]] = [each.watch() for each in parts.controllers.values()]
    works += [_take_part(parts.election), _work(parts)]
    for namespace, controller in parts.controllers.items():
        wanted = handlers.relisted[collection(names.KIND, namespace)]
        works.append(resync(parts.clusters[namespace], controller, wanted))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(kopfs)
        ours = [tasks.create_task(work) for work in works]
        await stop.wait()
        log.info("received a signal: shutting down")
        await _finish(parts, ours)
        watching.cancel()


async def _finish(parts: Parts, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for running reconciles, stop all parts, and release the lease."""
    stopping = [asyncio.create_task(each.stop()) for each in parts.controllers.values()]
    await asyncio.wait(stopping, timeout=STOP_SECONDS)
    for task in (*stopping, *tasks):
        task.cancel()
    await asyncio.wait((*stopping, *tasks))
    await parts.election.release()


async def _take_part(election: Election | Unopposed) -> None:
    """Take part in the election, and exit the process if the lease is lost."""
    try:
        await election.run()
    except LeaseLost as error:
        log.critical("%s: exiting, because another operator may be the leader", error)
        logging.shutdown()
        os._exit(EXIT_LEASE_LOST)


async def _work(parts: Parts) -> None:
    """Reconcile all jobs, and ask them for their progress, once this process may write."""
    await parts.election.won.wait()
    async with asyncio.TaskGroup() as tasks:
        for namespace, controller in parts.controllers.items():
            if isinstance(parts.election, Election):
                await take_over(parts.clusters[namespace], controller)
            tasks.create_task(controller.work())
        tasks.create_task(Poller(tuple(parts.controllers.values())).run())


def _heed_signals(stop: asyncio.Event | None = None) -> None:
    """Handle SIGINT and SIGTERM: set `stop`, or without it cancel the calling task."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        end_within(loop)
        if stop is not None:
            stop.set()
        elif me is not None:
            me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
