"""The operator's HTTP server: liveness, readiness and metrics."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from acceleratedjob import metrics
from acceleratedjob.api.names import Phase
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.health import Pulse

NEW = "New"  # jobs whose status no operator has written yet


class Pages:
    """The pages /healthz, /readyz and /metrics; probes treat a standby like the leader."""

    def __init__(
        self, pulse: Pulse, controllers: tuple[Controller, ...], leading: Callable[[], bool]
    ) -> None:
        self._pulse = pulse
        self._controllers = controllers
        self._leading = leading

    def application(self) -> web.Application:
        """Return the web application of the pages."""
        application = web.Application()
        pages = {"/healthz": self.alive, "/readyz": self.ready, "/metrics": self.metrics}
        application.add_routes([web.get(path, page) for path, page in pages.items()])
        return application

    async def alive(self, _request: web.Request) -> web.Response:
        """Respond 200 if each watch has received something recently; if not, a restart may help."""
        dead = [f"{path}: silent for {age:.0f} s" for path, age in self._pulse.dead.items()]
        return _verdict(dead)

    async def ready(self, _request: web.Request) -> web.Response:
        """Respond 200 if jobs and their objects were listed, so that this process can take over."""
        return _verdict([f"{path}: not listed yet" for path in self._pulse.unlisted])

    async def metrics(self, _request: web.Request) -> web.Response:
        """Respond with the metrics, in Prometheus' text format."""
        self._look()
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(metrics.REGISTRY), headers=headers)

    def _look(self) -> None:
        """Set the gauges, which are computed for each request."""
        leading = self._leading()
        phases = Counter[str | None]()
        for each in self._controllers:
            phases += each.cache.jobs.phases() if leading else Counter()
        for phase in (None, *Phase):
            metrics.JOBS.labels(phase or NEW).set(phases[phase])
        metrics.LEADER.set(leading)
        metrics.QUEUE_DEPTH.set(sum(len(each.queue) for each in self._controllers))
        metrics.WATCH_SILENCE.set(self._pulse.age)


def _verdict(wrong: list[str]) -> web.Response:
    return web.Response(text="\n".join(wrong or ["ok"]) + "\n", status=503 if wrong else 200)


class CannotListenError(Exception):
    """The port is in use, or not permitted."""


async def _listen(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, None, port).start()
    except (OSError, OverflowError) as error:
        raise CannotListenError(f"--http-port must be a free port, got {port}: {error}") from error


@contextlib.asynccontextmanager
async def serving(pages: Pages, port: int | None) -> AsyncIterator[None]:
    """Listen on a port of all addresses inside the block; without a port, do not listen.

    Raises:
        CannotListenError: the port cannot be opened.
    """
    if port is None:
        yield
        return
    runner = web.AppRunner(pages.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await _listen(runner, port)
        yield
    finally:
        await runner.cleanup()
