"""Asks a pod for its progress, or to stop, by HTTP/1.0 without a client library.

Whatever listens there, it takes little time and memory: the address is a literal one, so no name is
resolved; no redirect is followed, no proxy is used, and what is read is bounded.
"""

import asyncio
import ipaddress
import re

from acceleratedjob.observe.progress import MAX_BYTES, NotProgressError

SECONDS = 2.0  # for an answer
MAX_HEAD = 8 * 1024
_CHUNK = 64 * 1024
_REQUEST = b"GET /progress HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_OK = 200


async def ask(address: str, port: int, seconds: float = SECONDS) -> bytes:
    """Return the body of an answer.

    Args:
        address: an IP address.
        port: the port.
        seconds: the time for the whole answer.

    Raises:
        OSError: nothing listens there, or the connection is lost.
        TimeoutError: there is no whole answer in time.
        NotProgressError: the address is none of a pod, or the answer is no success, or too long.
    """
    status, body = await answer(address, port, _REQUEST, seconds)
    if status != _OK:
        sentence = f"the answer must be {_OK}, got {status}"
        raise NotProgressError(sentence)
    return body


async def answer(address: str, port: int, request: bytes, seconds: float) -> tuple[int, bytes]:
    """Return the status and the body of the answer to a request; raises as `ask` does."""
    check_address(address)
    async with asyncio.timeout(seconds):
        found = await _exchange(address, port, request)
    head, has_end, body = found.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if not has_end or len(head) > MAX_HEAD or status is None:
        sentence = f"the answer must have a status, such as 200, and begins with {found[:40]!r}"
        raise NotProgressError(sentence)
    return int(status[1]), body


def check_address(address: str) -> None:
    """Check that an address can be that of a pod.

    Raises:
        NotProgressError: it is no IP address, or one of many hosts, or of none.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise NotProgressError(str(error)) from error
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        sentence = f"the address of a pod must not be {address}"
        raise NotProgressError(sentence)


async def _exchange(address: str, port: int, request: bytes) -> bytes:
    """Send the request, and return the answer, of which a part is read if it is too long."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(request)
        received = bytearray()
        while len(received) <= MAX_HEAD + MAX_BYTES and (data := await reader.read(_CHUNK)):
            received += data
        return bytes(received)
    finally:
        writer.transport.abort()
