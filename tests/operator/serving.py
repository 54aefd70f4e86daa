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
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    hosts: list[str] = []

    async def serve() -> None:
        api = ApiServer()
        for one in objects:
            await api.cluster.create(one)
        async with api.serving() as link:
            hosts.append(link.configuration.host)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield _kubeconfig(folder / "kubeconfig", hosts[0])
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def _kubeconfig(path: Path, host: str) -> Path:
    context = {"cluster": "it", "namespace": "research"}
    config = {
        "clusters": [{"name": "it", "cluster": {"server": host}}],
        "contexts": [{"name": "lab", "context": context}, {"name": "live", "context": {}}],
        "current-context": "lab",
    }
    path.write_text(yaml.safe_dump(config))
    return path
