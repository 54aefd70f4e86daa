"""An API server with the objects of a `LocalCluster`, for the commands of a person.

It answers GET, LIST, WATCH, merge PATCH, apply and DELETE of jobs, LIST of pods, apply of
ConfigMaps, the discovery of their kind, and the WebSocket of `exec`, as far as the commands use
them. The same commands run against a real one in tests/cluster.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from acceleratedjob.api import names
from acceleratedjob.cluster import Changed, Gone, Listed, Ref
from acceleratedjob.errors import NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.talking import answering

KINDS = {names.PLURAL: names.KIND, "pods": "Pod", "configmaps": "ConfigMap"}
VERBS = {"GET": "get", "PATCH": "patch", "DELETE": "delete"}
DISCOVERED = [
    {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
    {"name": "nodes", "kind": "Node", "namespaced": False},
    {"name": "pods/log", "kind": "Pod", "namespaced": True},
]
Run = Callable[[str, list[str], web.WebSocketResponse], Awaitable[None]]  # pod, command


@dataclass(slots=True)
class ApiServer:
    """The server.

    Attributes:
        cluster: the objects.
        run: runs a command in a pod.
        forbidden: pairs of a verb and a resource that the user may not use.
        requests: the verb and the path of each request.
        watched: set while a watch is open, which misses no change from then on.
    """

    cluster: LocalCluster = field(default_factory=LocalCluster)
    run: Run | None = None
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    watched: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Connection]:
        """A connection to this server."""
        async with answering(self.answer) as link:
            yield link

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request as an API server does."""
        parts = request.path.strip("/").split("/")
        after = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts[-1:]
        verb = "watch" if "watch" in request.query else VERBS[request.method]
        self.requests.append((verb, request.path))
        resource = after[0] if len(after) < 3 else f"{after[0]}/{after[2]}"
        if request.path.startswith("/apis/example.com"):
            return web.json_response({"message": "there is no such path"}, status=404)
        if (verb, resource) in self.forbidden:
            words = f'{resource} is forbidden: User "ann" cannot {verb} resource "{resource}"'
            return web.json_response({"message": words}, status=403)
        try:
            return await self._dispatch(request, verb, after)
        except NotFound as error:
            return web.json_response({"message": str(error)}, status=404)

    async def _dispatch(
        self, request: web.Request, verb: str, after: list[str]
    ) -> web.StreamResponse:
        if after[0] not in KINDS:
            return web.json_response({"resources": DISCOVERED})
        if verb == "watch":
            return await self._watch(request, KINDS[after[0]])
        if len(after) == 1:
            return self._list(request, KINDS[after[0]])
        if len(after) == 3:
            return await self._exec(request, after[1])
        ref = Ref(KINDS[after[0]], request.path.split("/")[-3], after[1])
        return web.json_response(await self._object(request, verb, ref))

    async def _object(self, request: web.Request, verb: str, ref: Ref) -> dict[str, Any]:
        if verb == "get":
            return await self.cluster.read(ref)
        body = json.loads(await request.read())
        if verb == "delete":
            await self.cluster.delete(ref, uid=body["preconditions"]["uid"])
            return {"status": "Success"}
        if "apply-patch" in request.content_type:
            return await self._apply(ref, body, dry="dryRun" in request.query)
        return self.cluster.change(ref, lambda one: merge(one, body))

    async def _apply(self, ref: Ref, body: dict[str, Any], *, dry: bool) -> dict[str, Any]:
        body["metadata"]["namespace"] = ref.namespace
        try:
            found = await self.cluster.read(ref)
        except NotFound:
            new = {"metadata": {"resourceVersion": "0"}} | body
            return new if dry else await self.cluster.create(body)
        merge(changed := copy.deepcopy(found), body)
        if changed == found or dry:
            return changed
        return self.cluster.change(ref, lambda one: merge(one, body))

    def _list(self, request: web.Request, kind: str) -> web.Response:
        labels, path = request.query.get("labelSelector", ""), request.path.split("/")
        wanted = dict(one.split("=") for one in labels.split(",") if "=" in one)
        items = [
            one
            for one in self.cluster.objects(kind)
            if wanted.items() <= (one["metadata"].get("labels") or {}).items()
            and ("namespaces" not in path or one["metadata"]["namespace"] == path[-2])
        ]
        version = {"resourceVersion": str(self.cluster.version)}
        return web.json_response({"items": items, "metadata": version})

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        since = int(request.query["resourceVersion"])
        async for change in self.cluster.watch(kind):
            self.watched.set()
            for one in change.objects if isinstance(change, Listed) else (change.object,):
                if int(one["metadata"]["resourceVersion"]) <= since:
                    continue
                assert isinstance(change, Listed | Changed | Gone)
                event = "DELETED" if isinstance(change, Gone) else "MODIFIED"
                text = json.dumps({"type": event, "object": one})
                await response.write(f"{text}\n".encode())
        return response

    async def _exec(self, request: web.Request, pod: str) -> web.StreamResponse:
        response = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await response.prepare(request)
        assert self.run is not None
        await self.run(pod, request.query.getall("command"), response)
        await response.close()
        return response


def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    """Apply a merge patch (RFC 7396) without nulls."""
    for key, value in change.items():
        if isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
