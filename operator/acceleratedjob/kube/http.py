"""What the operator answers over HTTP: is it alive, is it ready, what has it counted."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from acceleratedjob import metrics
from acceleratedjob.api import Phase
from acceleratedjob.kube.pulse import Pulse
from acceleratedjob.reconciler import Reconciler

NEW = "New"  # jobs whose status no operator has written yet


class Pages:
    """Three pages. A standby is alive and ready like the leader."""

    def __init__(
        self, pulse: Pulse, reconcilers: tuple[Reconciler, ...], leading: Callable[[], bool]
    ) -> None:
        self._pulse = pulse
        self._reconcilers = reconcilers
        self._leading = leading

    def application(self) -> web.Application:
        """What serves them."""
        application = web.Application()
        pages = {"/healthz": self.alive, "/readyz": self.ready, "/metrics": self.metrics}
        application.add_routes([web.get(path, page) for path, page in pages.items()])
        return application

    async def alive(self, _request: web.Request) -> web.Response:
        """Whether every watch has been heard of lately; if not, a new process may do better."""
        dead = [f"{path}: silent for {age:.0f} s" for path, age in self._pulse.dead.items()]
        return _verdict(dead)

    async def ready(self, _request: web.Request) -> web.Response:
        """Whether all jobs, pods and Services are known, so that this process can take over."""
        return _verdict([f"{path}: not listed yet" for path in self._pulse.unlisted])

    async def metrics(self, _request: web.Request) -> web.Response:
        """For Prometheus."""
        self._look()
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(metrics.REGISTRY), headers=headers)

    def _look(self) -> None:
        """Take the values that nothing counts along the way."""
        leading = self._leading()
        phases = Counter[str | None]()
        for each in self._reconcilers:
            phases += each.cache.jobs.phases() if leading else Counter()
        for phase in (None, *Phase):
            metrics.JOBS.labels(phase or NEW).set(phases[phase])
        metrics.LEADER.set(leading)
        metrics.QUEUE_DEPTH.set(sum(len(each.queue) for each in self._reconcilers))
        metrics.WATCH_SILENCE.set(self._pulse.age)


def _verdict(wrong: list[str]) -> web.Response:
    return web.Response(text="\n".join(wrong or ["ok"]) + "\n", status=503 if wrong else 200)


class CannotListenError(Exception):
    """The port is another's, or not allowed."""


async def _listen(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, None, port).start()
    except (OSError, OverflowError) as error:
        raise CannotListenError(f"--http-port must be a free port, got {port}: {error}") from error


@contextlib.asynccontextmanager
async def serving(pages: Pages, port: int | None) -> AsyncIterator[None]:
    """Answer on a port of all addresses inside the block; nowhere without a port.

    Raises:
        CannotListenError: it is not free.
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
