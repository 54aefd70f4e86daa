"""Kopf watches the AcceleratedJobs and tells the reconcilers; it writes nothing to them.

Only `on.event` is used: no finalizer, no annotation, no state of kopf's on the resource, so that an
operator may be killed, upgraded or removed at any time and a job can always be deleted.
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

from acceleratedjob import api, metrics
from acceleratedjob.cluster import Changed, Gone
from acceleratedjob.kube.connection import REQUEST_SECONDS, no_answer, open_session
from acceleratedjob.kube.contact import Contact
from acceleratedjob.kube.objects import collection
from acceleratedjob.kube.pulse import Pulse
from acceleratedjob.kube.readable import Pauses, answers, unpacked
from acceleratedjob.kube.stream import JOBS_PAGE
from acceleratedjob.queue import Backoff
from acceleratedjob.reconciler import Reconciler

TOKEN_LIFE = timedelta(minutes=5)  # a projected token is replaced within its hour


@dataclass(frozen=True, slots=True)
class Handlers:
    """What kopf calls."""

    configuration: Configuration
    reconcilers: Mapping[str | None, Reconciler]  # by namespace; None serves all
    pulse: Pulse
    contact: Contact = field(default_factory=Contact)
    relisted: Mapping[str, asyncio.Event] = field(init=False)  # by path: kopf has listed again
    _lists: set[str] = field(default_factory=set)  # paths that kopf lists now
    unknown: Backoff = field(default_factory=lambda: Backoff(initial=0.5, maximum=20))
    pauses: Pauses = field(default_factory=Pauses)

    def __post_init__(self) -> None:
        paths = (collection(api.KIND, namespace) for namespace in self.reconcilers)
        object.__setattr__(self, "relisted", {path: asyncio.Event() for path in paths})

    def registry(self) -> kopf.OperatorRegistry:
        """A registry of its own: importing this module changes nothing global."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self.log_in)
        kopf.on.event(api.GROUP, api.VERSION, api.PLURAL, registry=registry)(self.see)
        return registry

    async def see(self, *, type: str, event: Any, namespace: str | None, **_: Any) -> None:  # noqa: A002  # kopf's name
        """A job was added, changed or removed."""
        served = namespace if namespace in self.reconcilers else None
        reconciler = self.reconcilers[served]
        self.pulse.hear(collection(api.KIND, served))
        job = unpacked(event["object"])
        reconciler.take(api.KIND, Gone(job) if type == "DELETED" else Changed(job))

    async def log_in(self, **_: Any) -> kopf.AiohttpSession:
        """A session of kopf's own, which tells us what it hears."""
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
        """Kopf's request has an answer's head; a watch begins only after its list was read."""
        status, path = end.response.status, self.pulse.watched(end.url.path)
        self.contact.heard()
        if status >= 400:  # noqa: PLR2004  # HTTP's line between yes and no
            metrics.API_ERRORS.labels(metrics.status_class(status)).inc()
        self.pulse.hear(path)
        if status < 400:  # noqa: PLR2004
            self._note(path, is_watch="watch" in end.url.query)
        if status == HTTPStatus.UNAUTHORIZED:  # kopf would log in and ask again without a pause
            await asyncio.sleep(self.unknown.next(path))
        else:
            self.unknown.reset(path)

    def _note(self, path: str, *, is_watch: bool) -> None:
        """Kopf lists or begins to watch; a second list says nothing of jobs that are gone."""
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
            return  # kopf has not waited for the answer
        error = no_answer(str(end.url.with_query(None)), end.exception)
        self.contact.lost(error)
        if not error.silent:
            self.pulse.hear(self.pulse.watched(end.url.path))


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between kopf's tries of one request: without an end, and each in time to be heard of.

    Kopf ends with the last of them, and the whole process with it: half a minute without an API
    server, or without the right to list, would be its end.
    """

    longest: float

    def __iter__(self) -> Iterator[float]:
        """As many as it takes."""
        for seconds in itertools.chain((1, 1, 2, 3, 5, 8, 13), itertools.repeat(21)):
            yield min(seconds, self.longest)


def settings(pulse: Pulse) -> kopf.OperatorSettings:
    """Make kopf a plain watcher, which begins a watch anew in time for us to hear of it."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False  # events are written by the plan, once for each decision
    made.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    made.peering.standalone = True
    made.process.ultimate_exiting_timeout = None  # a SIGKILL minutes after it has ended
    made.networking.connect_timeout = made.watching.connect_timeout = 10
    made.networking.request_timeout = REQUEST_SECONDS
    made.networking.error_backoffs = Waits(longest=pulse.silence / 3)
    made.watching.server_timeout = pulse.watch_seconds
    made.watching.inactivity_timeout = pulse.silence
    made.watching.chunk_size = JOBS_PAGE
    return made
