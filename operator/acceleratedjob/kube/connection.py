"""One authenticated HTTP session with an API server, in JSON."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from acceleratedjob import metrics
from acceleratedjob.errors import Unavailable
from acceleratedjob.kube.answers import error_from
from acceleratedjob.kube.pace import TRIES, Limit, Pace

JSON = "application/json"
REQUEST_SECONDS = 30
LINE_BYTES = 4 * 2**20  # a watch sends an object a line; etcd takes at most 1.5 MiB


async def load_configuration(kubeconfig: str | None, context: str | None) -> Configuration:
    """Where the API server is and who we are: in-cluster if so, else from a kubeconfig.

    Raises:
        ConfigException: neither is there.
    """
    configuration = Configuration()
    if kubeconfig is None and context is None:
        with contextlib.suppress(ConfigException):  # not in a pod
            load_incluster_config(client_configuration=configuration)
            return configuration
    await load_kube_config(
        config_file=kubeconfig, context=context, client_configuration=configuration
    )
    return configuration


@dataclass(frozen=True, slots=True)
class Connection:
    """Sends requests as the configured user."""

    configuration: Configuration
    session: aiohttp.ClientSession
    pace: Pace = field(default_factory=Pace)

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send a request and return the answer's JSON; again, when the server asks for it.

        Args:
            method: an HTTP method.
            path: from the server's root.
            body: what is sent as JSON; bytes are sent as they are.
            **options: `params`; `content_type` and `accept` if they are not application/json.

        Raises:
            ClusterError: as `answers.error_from` says, and Unavailable without any answer.
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

    async def _send(self, method: str, path: str, **options: Any) -> Any:
        async with self.pace.turn(), self.open(method, path, **options) as answer:
            return json.loads(await answer.read())

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the answer while it comes.

        Raises:
            ClusterError: as for `request`.
        """
        headers = {"Content-Type": content_type, "Accept": accept}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = self.configuration.host + path
        try:
            async with self.session.request(method, url, headers=headers, **options) as answer:
                if answer.status >= 400:  # noqa: PLR2004  # HTTP's line between yes and no
                    metrics.API_ERRORS.labels(metrics.status_class(answer.status)).inc()
                    raise error_from(answer.status, await answer.read(), answer.headers)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            silent = isinstance(error, TimeoutError)
            metrics.API_ERRORS.labels("timeout" if silent else "connection").inc()
            sentence = f"no answer from {url}: {type(error).__name__} {error}"
            raise Unavailable(sentence, silent=silent) from error


def open_session(configuration: Configuration, **options: Any) -> aiohttp.ClientSession:
    """A session with the API server; the caller authenticates its requests, and closes it."""
    connector = aiohttp.TCPConnector(ssl=RESTClientObject(configuration).ssl_context, limit=0)
    return aiohttp.ClientSession(
        connector=connector, read_bufsize=LINE_BYTES, proxy=configuration.proxy, **options
    )


def _encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


@contextlib.asynccontextmanager
async def connect(
    configuration: Configuration, limit: Limit | None = None
) -> AsyncIterator[Connection]:
    """A connection that is closed at the end."""
    async with open_session(configuration) as session:
        yield Connection(configuration, session, Pace(limit or Limit()))
