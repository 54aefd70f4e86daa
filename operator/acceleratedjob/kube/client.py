"""An HTTP client for an API server: authentication, rate limit, retries, JSON."""

import contextlib
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from acceleratedjob import metrics
from acceleratedjob.errors import NoAnswer, Unavailable, Unreachable
from acceleratedjob.kube.decoding import Take, decode
from acceleratedjob.kube.errors import error_from
from acceleratedjob.kube.health import Contact
from acceleratedjob.kube.kubeconfig import Kubeconfig, find
from acceleratedjob.kube.limits import Limit
from acceleratedjob.kube.ratelimit import TRIES, Pace

JSON = "application/json"
REQUEST_SECONDS = 30
BUFFER_BYTES = 4 * 2**20  # the buffer for a response that arrives faster than it is read
# The exceptions of the client library for a context with invalid values or files.
_UNUSABLE = (ConfigException, aiohttp.ClientError, OSError, ValueError, LookupError, TypeError)

log = logging.getLogger(__name__)


async def load_configuration(kubeconfig: str | None, context: str | None) -> Configuration:
    """Return the address and the credentials, from the service account or a kubeconfig.

    Raises:
        Unreachable: there is no kubeconfig, or it cannot be used.
    """
    configuration = Configuration()
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        try:
            load_incluster_config(client_configuration=configuration)
        except (ConfigException, OSError) as error:
            log.warning("the pod's service account cannot be used: %s", error)
        else:
            return configuration
    await _load(find(kubeconfig, context), configuration)
    return configuration


async def _load(found: Kubeconfig, into: Configuration) -> None:
    where = f"context {found.context!r} of {found.files}"
    try:
        await load_kube_config(
            config_file=found.files, context=found.context, client_configuration=into
        )
    except _UNUSABLE as error:
        raise Unreachable(f"{where} cannot be used: {error}") from error
    if found.command and not (into.api_key.get("BearerToken") or into.cert_file):
        raise Unreachable(
            f"{where}: the command {found.command!r} must print credentials, and has printed none "
            "(see the previous line); run it by hand"
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection to an API server as the configured user.

    Attributes:
        configuration: the address and the credentials.
        session: the HTTP session.
        pace: the rate limiter.
        contact: whether the API server responds.
    """

    configuration: Configuration
    session: aiohttp.ClientSession
    pace: Pace = field(default_factory=Pace)
    contact: Contact = field(default_factory=Contact)

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send a request and decode the response; retry when the server asks for it.

        Args:
            method: the HTTP method.
            path: the path, from the root of the server.
            body: the body, which is sent as JSON; bytes are sent unchanged.
            **options: `params`; `content_type` and `accept`, if they are not application/json;
                `begin`, see `open`; `take`, for the items of a list, see `decoding.decode`.

        Raises:
            ClusterError: see `errors.error_from`; without a response, see `no_answer`.
        """
        data = body if isinstance(body, bytes | None) else _encoded(body)
        options |= {"data": data, "timeout": aiohttp.ClientTimeout(total=REQUEST_SECONDS)}
        for _ in range(TRIES - 1):
            try:
                return await self._send(method, path, **options)
            except Unavailable as error:
                if not error.retry_after:
                    raise
                self.pace.hold(error.retry_after)
        return await self._send(method, path, **options)

    async def _send(
        self, method: str, path: str, *, take: Take | None = None, **options: Any
    ) -> Any:
        async with self.pace.turn(), self.open(method, path, **options) as answer:
            body = await answer.read()
        try:
            return await decode(body, take)
        except ValueError as error:
            sentence = f"{answer.url} must answer with JSON: is it an API server? It says"
            raise Unavailable(f"{sentence} {body[:80]!r}") from error

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        begin: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and stream the response inside the block.

        Args:
            method: the HTTP method.
            path: the path, from the root of the server.
            content_type: the type of the body.
            accept: the type of the response.
            begin: called immediately before the request is sent; an exception cancels it.
            **options: the options of aiohttp.

        Raises:
            ClusterError: as for `request`.
        """
        headers = {"Content-Type": content_type, "Accept": accept}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = self.configuration.host + path
        begin()
        try:
            async with self.session.request(method, url, headers=headers, **options) as answer:
                self.contact.heard()
                if answer.status >= 400:  # noqa: PLR2004  # an error response
                    metrics.API_ERRORS.labels(metrics.status_class(answer.status)).inc()
                    raise error_from(answer.status, await answer.read(), answer.headers)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise no_answer(url, error) from error


def no_answer(url: str, error: BaseException) -> NoAnswer:
    """Convert an exception that was raised instead of a response, and count it."""
    silent = isinstance(error, TimeoutError)
    metrics.API_ERRORS.labels("timeout" if silent else "connection").inc()
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        wrong = error.certificate_error
        reason = getattr(wrong, "verify_message", "") or wrong
        return Unreachable(
            f"the certificate of {urlsplit(url).netloc} must be trusted, and is not: "
            f"{reason}; check the certificate-authority and the server in the kubeconfig"
        )
    return NoAnswer(f"no answer from {url}: {type(error).__name__} {error}", silent=silent)


def open_session(configuration: Configuration, **options: Any) -> aiohttp.ClientSession:
    """Open an HTTP session; the caller authenticates the requests, and closes the session.

    Raises:
        Unreachable: the certificates of the configuration cannot be used.
    """
    # Without enable_cleanup_closed, older versions of Python leak TLS connections whose server no
    # longer reads.
    connector = aiohttp.TCPConnector(
        ssl=_tls(configuration), limit=0, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED
    )
    return aiohttp.ClientSession(
        connector=connector, read_bufsize=BUFFER_BYTES, proxy=configuration.proxy, **options
    )


def _tls(configuration: Configuration) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = RESTClientObject(configuration).ssl_context
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"the certificates for {configuration.host} must be PEM files, and are not: {error}"
        ) from error
    return context


def _encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


@contextlib.asynccontextmanager
async def connect(
    configuration: Configuration, limit: Limit | None = None
) -> AsyncIterator[Connection]:
    """Open a connection that is closed at the end of the block."""
    async with open_session(configuration) as session:
        yield Connection(configuration, session, Pace(limit or Limit()))
