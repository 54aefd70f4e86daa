"""Runs a command in a container, as `kubectl exec` does: over a WebSocket of the API server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from acceleratedjob.errors import ClusterError, Refused
from acceleratedjob.kube.client import Connection, no_answer
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.errors import error_from

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = 1, 2, 3  # the first byte of a message
MAX_BYTES = 4 * 2**20  # of the output; a pod could send without end


@dataclass(frozen=True, slots=True)
class Output:
    """What a command has printed.

    Attributes:
        code: its exit code; None if it could not be started.
        out: the standard output.
        err: the standard error, or why the command could not be started.
    """

    code: int | None
    out: str
    err: str


async def run_in_pod(
    connection: Connection,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
) -> Output:
    """Run a command in a container, and return what it has printed.

    Raises:
        Refused: the user may not do so.
        ClusterError: the pod is gone, or the connection is lost.
    """
    path = f"{collection('Pod', namespace)}/{pod}/exec"
    params = [("command", word) for word in command]
    params += [("container", container), ("stdout", "true"), ("stderr", "true")]
    configuration = connection.configuration
    token = await configuration.get_api_key_with_prefix("BearerToken")
    headers = {"Authorization": token} if token else {}
    url = configuration.host + path
    try:
        async with connection.session.ws_connect(
            url, params=params, headers=headers, protocols=PROTOCOLS, max_msg_size=MAX_BYTES
        ) as socket:
            return await _output(socket, pod)
    except aiohttp.WSServerHandshakeError as error:
        raise _refused(error, namespace, pod) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise no_answer(url, error) from error


def _refused(error: aiohttp.WSServerHandshakeError, namespace: str, pod: str) -> ClusterError:
    """Return the error for a response that is no WebSocket, whose body is not known."""
    if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
        return Refused(
            f"you need the permission to run commands in pods of {namespace}: the verbs get and "
            f"create of pods/exec, which the role edit has ({error.status})",
            final=False,
        )
    sentence = f"cannot run a command in pod {pod}: {error.message}"
    return error_from(error.status, sentence.encode(), error.headers or {})


async def _output(socket: aiohttp.ClientWebSocketResponse, pod: str) -> Output:
    """Read the output until the command has ended.

    Raises:
        ClusterError: the connection is lost before.
    """
    parts: dict[int, bytearray] = {_STDOUT: bytearray(), _STDERR: bytearray()}
    async for message in socket:
        data = message.data.encode() if isinstance(message.data, str) else message.data
        channel, content = (data[0], data[1:]) if data else (0, b"")
        if channel == _STATUS:
            code, why = _ended(content)
            out, err = (bytes(one).decode(errors="replace") for one in parts.values())
            return Output(code, out, err or why)
        if channel in parts:
            parts[channel] += content
            if sum(map(len, parts.values())) > MAX_BYTES:
                raise ClusterError(f"pod {pod} has printed more than {MAX_BYTES} bytes")
    raise ClusterError(f"the connection to pod {pod} was lost before the command had ended")


def _ended(content: bytes) -> tuple[int | None, str]:
    """Return the exit code, None if the command could not be started, and the message."""
    try:
        status = json.loads(content)
        if status["status"] == "Success":
            return 0, ""
        message = str(status.get("message", ""))
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [one["message"] for one in causes if one.get("reason") == "ExitCode"]
        return (int(codes[0]) if codes else None), message
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ClusterError(f"the API server must say how a command ended: {error!r}") from error
