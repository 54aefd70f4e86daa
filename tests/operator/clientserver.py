"""The API server of tests/operator/apiserver.py, with what a client needs beside the commands.

It answers POST and DELETE of jobs and ConfigMaps, and the logs of pods. It serves in a thread of
its own, because a client blocks.
"""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.client.portal import Portal
from acceleratedjob.cluster import Ref
from acceleratedjob.errors import AlreadyExists, NotFound, Refused
from tests.operator import apiserver
from tests.operator.apiserver import ApiServer

KINDS = apiserver.KINDS | {"configmaps": "ConfigMap"}
VERBS = {"POST": "create", "DELETE": "delete"}


@dataclass(slots=True)
class ClientServer(ApiServer):
    """The server.

    Attributes:
        logs: what the containers of pods have written, by the name of the pod.
        deaf: pairs of a verb and a resource whose request is neither done nor answered.
        silent: pairs of a verb and a resource whose request is done, but not answered.
        portal: its thread.
    """

    logs: dict[str, bytes] = field(default_factory=dict)
    deaf: set[tuple[str, str]] = field(default_factory=set)
    silent: set[tuple[str, str]] = field(default_factory=set)
    portal: Portal = field(default_factory=Portal)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request as an API server does."""
        if request.path.endswith("/log"):
            return web.Response(body=self.logs[request.path.split("/")[-2]])
        if request.method not in VERBS:
            return await ApiServer.answer(self, request)
        try:
            return web.json_response(await self._write(request), status=201)
        except AlreadyExists as error:
            return web.json_response({"message": str(error), "reason": "AlreadyExists"}, status=409)
        except NotFound as error:
            return web.json_response({"message": str(error)}, status=404)
        except Refused as error:
            return web.json_response({"message": str(error)}, status=403)

    async def _write(self, request: web.Request) -> Manifest:
        verb, parts = VERBS[request.method], request.path.strip("/").split("/")
        space, resource, *named = parts[parts.index("namespaces") + 1 :]
        self.requests.append((verb, request.path))
        if (verb, resource) in self.forbidden:
            words = f'{resource} is forbidden: User "ann" cannot {verb} resource "{resource}"'
            raise Refused(words, final=False)
        body: Manifest = json.loads(await request.read())
        if (verb, resource) in self.deaf | self.silent and request.transport is not None:
            request.transport.abort()
        if (verb, resource) in self.deaf:
            return {}
        if verb == "create":
            return await self.cluster.create(body)
        return await self._delete(Ref(KINDS[resource], space, *named), body)

    async def _delete(self, ref: Ref, options: Manifest) -> Manifest:
        """Delete an object, and what it owns, as the garbage collector does."""
        uid = options["preconditions"]["uid"]
        await self.cluster.delete(ref, uid=uid)
        for kind in ("Pod", "ConfigMap"):
            for one in list(self.cluster.objects(kind)):
                if names.owner_uid(one) == uid:
                    self.cluster.remove(Ref.of(one), uid=one["metadata"]["uid"])
        return {"kind": "Status", "status": "Success"}

    @contextmanager
    def kubeconfig(self, folder: Path) -> Iterator[Path]:
        """Serve in a thread; the path of a kubeconfig of this server."""
        runner = self.do(self._start())
        try:
            server = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
            context = {"cluster": "c", "namespace": "research"}
            file = folder / "kubeconfig"
            told: dict[str, Any] = {
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": server}],
                "contexts": [{"name": "here", "context": context}],
            }
            file.write_text(yaml.safe_dump(told))
            yield file
        finally:
            self.do(runner.cleanup())
            self.portal.close()

    async def _start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    def do(self, work: Any) -> Any:
        """Run a coroutine in its thread."""
        return self.portal.run(work)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine in its thread, which runs until the end."""
        asyncio.run_coroutine_threadsafe(work, self.portal._loop)

    def change(self, ref: Ref, change: Manifest) -> None:
        """Change an object as its author or the operator does."""

        async def alter() -> None:
            self.cluster.change(ref, lambda one: apiserver.merge(one, change))

        self.do(alter())
