"""Kopf's watch of the jobs, on whatever an API server answers to it."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manager.job_watch import watch_jobs
from acceleratedjob.manager.jobs import Handlers
from acceleratedjob.manager.refresh import resync
from tests.operator.builders import job
from tests.operator.talking import answering

PATH = collection(names.KIND, None)
SECONDS = 600
JOBS = {
    "name": names.PLURAL,
    "singularName": "acceleratedjob",
    "kind": names.KIND,
    "namespaced": True,
    "verbs": ["list", "watch", "patch"],
}
CRDS = {
    "name": "customresourcedefinitions",
    "singularName": "customresourcedefinition",
    "kind": "CustomResourceDefinition",
    "namespaced": False,
    "verbs": ["list", "watch"],
}
NAMESPACES = {
    "name": "namespaces",
    "singularName": "namespace",
    "kind": "Namespace",
    "namespaced": False,
    "verbs": ["list", "watch"],
}


def group(name: str, version: str) -> Manifest:
    preferred = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [NAMESPACES]},
    "/apis": {"groups": [group(names.GROUP, names.VERSION), group("apiextensions.k8s.io", "v1")]},
    f"/apis/{names.API_VERSION}": {"resources": [JOBS]},
    "/apis/apiextensions.k8s.io/v1": {"resources": [CRDS]},
}


def named(name: str, version: int = 1) -> Manifest:
    made = job()
    made["metadata"] |= {"name": name, "uid": name, "resourceVersion": str(version)}
    return made


@dataclass
class Server:
    """An API server whose lists and watches of jobs a test has written down.

    The last list is answered for ever; a watch that is not written down never ends.
    """

    lists: deque[Any]  # names of jobs, or a status code
    watches: deque[Any] = field(default_factory=deque)  # texts
    prefix: str = ""
    version: int = 1

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix(self.prefix)
        if path != PATH:
            status = 200 if path in DISCOVERY else 404
            return web.json_response(DISCOVERY.get(path, {}), status=status)
        if "watch" in request.query:
            if not self.watches:
                await web.StreamResponse().prepare(request)
                await asyncio.Event().wait()
            return web.Response(text=self.watches.popleft())
        self.version += 1
        told = self.lists.popleft() if len(self.lists) > 1 else self.lists[0]
        if isinstance(told, int):
            return web.json_response({"kind": "Status", "code": told}, status=told)
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"items": [named(name) for name in told], "metadata": metadata})


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "object": fields}) + "\n"


GONE = event("ERROR", code=410, message="too old")


async def known(server: Server, holds: Callable[[Controller, Pulse], bool]) -> set[str]:
    """The jobs that a controller knows as soon as something holds."""
    async with asyncio.timeout(SECONDS), answering(server.answer) as link:
        link.configuration.host += server.prefix
        pulse = Pulse((PATH,))
        controller = Controller(LocalCluster())
        handlers = Handlers(link.configuration, {None: controller}, pulse)
        cluster = KubernetesCluster(replace(link), None)
        begun: list[None] = []
        works = (
            watch_jobs(
                handlers,
                (),
                ready=partial(asyncio.sleep, 0),
                begun=lambda: begun.append(None),
            ),
            resync(cluster, controller, handlers.relisted[PATH]),
        )
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            while not holds(controller, pulse):  # noqa: ASYNC110  # kopf says nothing else
                await asyncio.sleep(0.05)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return set(controller.cache.jobs)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        pytest.param(Server(deque([("a", "b")])), {"a", "b"}, id="what is listed"),
        pytest.param(
            Server(deque([("a", "b"), ("b",)]), deque([GONE])),
            {"b"},
            id="a job that was deleted in a gap is forgotten",
        ),
        pytest.param(
            Server(deque([("a", "b"), ("a", "b", "c")]), deque([event("ERROR", code=500)])),
            {"a", "b", "c"},
            id="any error of the watch is a gap",
        ),
        pytest.param(
            Server(deque([("a", "b"), ("b",)]), deque(["<html>says a proxy</html>\n"])),
            {"b"},
            id="a line that is not JSON is a gap",
        ),
        pytest.param(
            Server(deque([("a", "b"), 404, ("c",)]), deque([GONE])),
            {"c"},
            id="the definition is deleted, and is there again",
        ),
    ],
)
def test_the_jobs_that_are_known(server: Server, expected: set[str]) -> None:
    def holds(controller: Controller, _: Pulse) -> bool:
        return set(controller.cache.jobs) == expected and not server.watches

    assert asyncio.run(known(server, holds)) == expected


@pytest.mark.parametrize("prefix", ["", "/k8s/clusters/c-1"], ids=["at the root", "behind a path"])
def test_all_is_listed_when_the_watch_begins_wherever_the_api_server_is(prefix: str) -> None:
    server = Server(deque([("a",)]), prefix=prefix)
    assert asyncio.run(known(server, lambda _, pulse: not pulse.unlisted)) <= {"a"}
