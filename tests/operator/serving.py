"""A kubeconfig whose API server answers from another thread, for commands as they are typed."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from acceleratedjob.api.names import Manifest
from tests.operator.apiserver import ApiServer


@contextmanager
def api_server(folder: Path, *objects: Manifest) -> Iterator[Path]:
    """The path of a kubeconfig, whose context is of the namespace research."""
    ready, ended = threading.Event(), asyncio.Event()
    found: list[tuple[asyncio.AbstractEventLoop, str]] = []

    async def serve() -> None:
        api = ApiServer()
        for one in objects:
            await api.cluster.create(one)
        async with api.serving() as link:
            found.append((asyncio.get_running_loop(), link.configuration.host))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    ((loop, host),) = found
    try:
        yield _kubeconfig(folder / "kubeconfig", host)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def _kubeconfig(path: Path, host: str) -> Path:
    context = {"cluster": "it", "namespace": "research"}
    config = {
        "clusters": [{"name": "it", "cluster": {"server": host}}],
        "contexts": [{"name": "lab", "context": context}, {"name": "live", "context": {}}],
        "current-context": "lab",
    }
    path.write_text(yaml.safe_dump(config))
    return path
