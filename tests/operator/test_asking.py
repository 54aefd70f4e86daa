"""Whatever listens at the progress port of a local job, asking it takes little time and memory."""

import asyncio

import pytest

from acceleratedjob.controller.polling.asking import MAX_HEAD
from acceleratedjob.controller.polling.asking import ask as ask_address
from acceleratedjob.local.process import LOOPBACK, free_port
from acceleratedjob.observe.progress import MAX_BYTES, NotProgressError, Progress, read_progress
from tests.operator.servers import Serve, serving

CHUNK = 64 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def sends(*parts: bytes) -> Serve:
    """A server that reads the request, sends some bytes, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(parts)
        writer.close()

    return serve


async def is_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """A server that never answers."""
    await reader.read()


async def ask(port: int, seconds: float = 600) -> Progress | None:
    """The progress that a job tells at a port; None without an answer that is one."""
    try:
        return read_progress(await ask_address(LOOPBACK, port, seconds))
    except (OSError, TimeoutError, NotProgressError):
        return None


def asked(serve: Serve, seconds: float = 600) -> Progress | None:
    async def run() -> Progress | None:
        async with serving(serve) as port:
            return await ask(port, seconds)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("serve", "progress"),
    [
        pytest.param(sends(OK, b'{"step": 7}'), Progress(step=7), id="an answer"),
        pytest.param(sends(*(b"%c" % one for one in OK + b"{}")), Progress(), id="in pieces"),
        pytest.param(sends(), None, id="nothing"),
        pytest.param(sends(b"\x00\xff" * 999), None, id="bytes"),
        pytest.param(sends(b"HTTP/1.1 404 Not Found\r\n\r\n{}"), None, id="no such page"),
        pytest.param(sends(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n{}"), None, id="elsewhere"),
        pytest.param(sends(OK, b'{"step": 7'), None, id="half an answer"),
        pytest.param(sends(OK, b" " * (MAX_HEAD + MAX_BYTES)), None, id="too long an answer"),
    ],
)
def test_a_job_that_answers_with(serve: Serve, progress: Progress | None) -> None:
    assert asked(serve) == progress


def test_a_job_that_does_not_answer_is_not_waited_for() -> None:
    assert asked(is_silent, 0.1) is None


def test_an_answer_without_an_end_is_read_as_far_as_it_may_be() -> None:
    sent = 0

    async def has_no_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK)
        while not writer.is_closing():
            writer.write(b" " * CHUNK)
            await writer.drain()
            sent += CHUNK

    assert asked(has_no_end) is None
    assert sent < 32 * MAX_BYTES  # what was read, and what the buffers of the sockets hold


def test_a_job_that_does_not_listen_yet() -> None:
    assert asyncio.run(ask(free_port())) is None
