"""Kopf watches the AcceleratedJobs and passes their events to the controllers.

Only `on.event` is used: kopf writes no finalizer, no annotation and no state to the resource, so
that the operator can be killed, upgraded or removed at any time, and jobs can always be deleted.
"""

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.client import Configuration

from acceleratedjob import metrics
from acceleratedjob.api import names
from acceleratedjob.cluster import Changed, Gone
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.client import REQUEST_SECONDS, no_answer, open_session
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.health import Contact, Pulse
from acceleratedjob.kube.informer import JOBS_PAGE
from acceleratedjob.manager.readable import Pauses, answers, unpacked

TOKEN_LIFE = timedelta(minutes=5)  # the kubelet replaces a projected token within an hour


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers that kopf calls.

    Attributes:
        configuration: the address and the credentials of the API server.
        controllers: the controllers by namespace; None stands for all namespaces.
        pulse: when each watch last received something.
        contact: whether the API server responds.
        relisted: by path, an event that is set when kopf has listed the jobs again.
        unknown: the backoff after the API server rejects the credentials (401).
        pauses: the backoff where kopf would repeat a request immediately.
    """

    configuration: Configuration
    controllers: Mapping[str | None, Controller]
    pulse: Pulse
    contact: Contact = field(default_factory=Contact)
    relisted: Mapping[str, asyncio.Event] = field(init=False)
    _lists: set[str] = field(default_factory=set)  # paths that kopf is listing
    unknown: Backoff = field(default_factory=lambda: Backoff(initial=0.5, maximum=20))
    pauses: Pauses = field(default_factory=Pauses)

    def __post_init__(self) -> None:
        paths = (collection(names.KIND, namespace) for namespace in self.controllers)
        object.__setattr__(self, "relisted", {path: asyncio.Event() for path in paths})

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry for these handlers, instead of kopf's global registry."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self.log_in)
        kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)(self.see)
        return registry

    async def see(self, *, type: str, event: Any, namespace: str | None, **_: Any) -> None:  # noqa: A002  # kopf's name
        """Pass an event of a job to the controller of its namespace."""
        served = namespace if namespace in self.controllers else None
        controller = self.controllers[served]
        self.pulse.hear(collection(names.KIND, served))
        job = unpacked(event["object"])
        controller.take(names.KIND, Gone(job) if type == "DELETED" else Changed(job))

    async def log_in(self, **_: Any) -> kopf.AiohttpSession:
        """Create kopf's HTTP session, which reports responses to us."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._answered)
        trace.on_request_exception.append(self._unanswered)
        headers = {"Authorization": token} if token else {}
        return kopf.AiohttpSession(
            server=self.configuration.host,
            aiohttp_session=open_session(
                self.configuration,
                headers=headers,
                trace_configs=[trace],
                response_class=answers(self.pauses),
            ),
            expiration=datetime.now(UTC) + TOKEN_LIFE if token else None,
        )

    async def _answered(
        self, _session: object, _context: object, end: aiohttp.TraceRequestEndParams
    ) -> None:
        """Note that kopf received response headers; kopf starts a watch after reading the list."""
        status, path = end.response.status, self.pulse.watched(end.url.path)
        self.contact.heard()
        if status >= 400:  # noqa: PLR2004  # an error response
            metrics.API_ERRORS.labels(metrics.status_class(status)).inc()
        self.pulse.hear(path)
        if status < 400:  # noqa: PLR2004
            self._note(path, is_watch="watch" in end.url.query)
        if status == HTTPStatus.UNAUTHORIZED:  # kopf would log in and ask again without a pause
            await asyncio.sleep(self.unknown.next(path))
        else:
            self.unknown.reset(path)

    def _note(self, path: str, *, is_watch: bool) -> None:
        """Note that kopf lists or watches; after a second list, look for jobs that were deleted."""
        if not is_watch:
            self._lists.add(path)
            return
        if path in self._lists and path in self.relisted and path not in self.pulse.unlisted:
            self.relisted[path].set()
        self._lists.discard(path)
        self.pulse.complete(path)

    async def _unanswered(
        self,
        session: aiohttp.ClientSession,
        _context: object,
        end: aiohttp.TraceRequestExceptionParams,
    ) -> None:
        if session.closed or not isinstance(end.exception, (aiohttp.ClientError, TimeoutError)):
            return  # kopf has canceled the request
        error = no_answer(str(end.url.with_query(None)), end.exception)
        self.contact.lost(error)
        if not error.silent:
            self.pulse.hear(self.pulse.watched(end.url.path))


@dataclass(frozen=True, slots=True)
class Waits:
    """The seconds between kopf's retries of a request, as an endless sequence.

    When the sequence ends, kopf and the process end. With kopf's default, half a minute without an
    API server, or without the permission to list jobs, would be enough.

    Attributes:
        longest: the maximum wait.
    """

    longest: float

    def __iter__(self) -> Iterator[float]:
        """Yield the seconds before each retry, without end."""
        for seconds in itertools.chain((1, 1, 2, 3, 5, 8, 13), itertools.repeat(21)):
            yield min(seconds, self.longest)


def settings(pulse: Pulse) -> kopf.OperatorSettings:
    """Return kopf's settings: watch only, and reconnect before a watch is considered dead."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False  # the plan creates Events, one per decision
    made.scanning.disabled = True  # it would need the permission to list CRDs and namespaces
    made.peering.standalone = True
    made.process.ultimate_exiting_timeout = None  # else a SIGKILL follows minutes after the end
    made.networking.connect_timeout = made.watching.connect_timeout = 10
    made.networking.request_timeout = REQUEST_SECONDS
    made.networking.error_backoffs = Waits(longest=pulse.silence / 3)
    made.watching.server_timeout = pulse.watch_seconds
    made.watching.inactivity_timeout = pulse.silence
    made.watching.chunk_size = JOBS_PAGE
    return made
