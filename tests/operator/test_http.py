"""What the operator's port gives to whoever reaches it: three pages to read."""

import asyncio

import aiohttp
import pytest

from acceleratedjob.kube.health import Pulse
from acceleratedjob.local.process import free_port
from acceleratedjob.manager.server import Pages, serving


def asked(method: str, path: str, size: int = 0, header: int = 0) -> int:
    """The status that a request is answered with, with a body and a header of so many bytes."""

    async def scenario() -> int:
        port = free_port()
        url, headers = f"http://127.0.0.1:{port}{path}", {"X-Long": "a" * header}
        pages = Pages(Pulse(()), (), lambda: False)
        async with (
            serving(pages, port),
            aiohttp.ClientSession() as session,
            session.request(method, url, data=b"a" * size, headers=headers) as answer,
        ):
            return answer.status

    return asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_the_pages_are_read_and_nothing_else_is_done(path: str) -> None:
    assert asked("GET", path) == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert asked(method, path, size=1000) == 405


@pytest.mark.parametrize("path", ["/", "/jobs", "/metrics/x", "/%2e%2e/etc/passwd", "/debug/pprof"])
def test_there_is_no_other_page(path: str) -> None:
    assert asked("GET", path) == 404


def test_a_request_is_bounded() -> None:
    assert asked("GET", "/healthz", header=8000) == 200
    assert asked("GET", "/healthz", header=100_000) == 400
