"""Measure the CPU time of a pod event and of a pod's creation, with our client and with others.

    python -m bench.operator.watching            10,000 events, 2,000 creations, 3 rounds
    python -m bench.operator.watching 1000 100   other numbers of events and creations

A server in another process answers, so that only the client's time is counted:

    ours                        `kube.informer.Stream` and `kube.client.Connection`
    kubernetes.aio, raw         its generated methods, `..._without_preload_content`, and json
    kubernetes.aio, dicts       its `Watch`, with `return_type=object`
    kubernetes.aio, models      its `Watch` and its methods, as its documentation shows them
    kopf                        a handler of events, each of another pod
"""

import asyncio
import functools
import json
import logging
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import kopf
from aiohttp import web
from kubernetes.aio import client, watch

from acceleratedjob.api import names
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.kube.client import connect
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import Stream
from acceleratedjob.manifests.pod_bytes import Gang
from bench.command import say
from bench.operator.relist import job, pod
from bench.operator.serving import Handler, served

EMPTY = {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}


def _resource(plural: str, kind: str, *, namespaced: bool) -> dict[str, object]:
    names_ = {"name": plural, "singularName": kind.lower(), "kind": kind}
    return {**names_, "namespaced": namespaced, "verbs": ["get", "list", "watch", "patch"]}


CRDS = "apiextensions.k8s.io"
DISCOVERY: dict[str, object] = {  # what kopf asks for before it watches
    "/version": {"major": "1", "minor": "33"},
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "resources": [
            _resource("pods", "Pod", namespaced=True),
            _resource("events", "Event", namespaced=True),
            _resource("namespaces", "Namespace", namespaced=False),
        ]
    },
    "/apis": {
        "groups": [
            {"name": CRDS, "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}}
        ]
    },
    f"/apis/{CRDS}/v1": {
        "resources": [
            _resource("customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
        ]
    },
}
EVENTS, CREATIONS, ROUNDS = 10_000, 2_000, 3
NAMESPACE = "research"
Work = Callable[[str, int], Coroutine[Any, Any, int]]  # (host, how many) -> how many were done


def api_server(events: int) -> Handler:
    """Return the handler of lists, watches of so many events, and creations."""
    event = {"type": "ADDED", "object": pod(0) | {"kind": "Pod", "apiVersion": "v1"}}
    line = json.dumps(event).replace(f"{0:036x}", "{}").encode()  # each pod has a uid of its own
    before, _, after = line.partition(b"{}")
    created = json.dumps(event["object"])

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            await request.read()
            return web.Response(text=created, content_type="application/json")
        if request.query.get("watch") not in {"true", "True"}:
            text = json.dumps(DISCOVERY.get(request.path, EMPTY))
            return web.Response(text=text, content_type="application/json")
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(events):
            await response.write(b"".join((before, f"{number:036x}".encode(), after, b"\n")))
        await asyncio.sleep(60)  # a watch does not end when nothing happens
        return response

    return answer


def configuration(host: str) -> client.Configuration:
    """The configuration of a client, without credentials."""
    made = client.Configuration()
    made.host = host
    return made


async def ours(host: str, count: int) -> int:
    """Watch as the operator does."""
    async with connect(configuration(host)) as link:
        changes = Stream(link, collection("Pod", None), "Pod", names.JOB_NAME_LABEL, Pulse(()))
        return await _counted(changes.changes(), count + 1)  # with the list before


async def raw(host: str, count: int) -> int:
    """Watch with the generated method and its undecoded response."""
    async with client.ApiClient(configuration(host)) as api:
        core = client.CoreV1Api(api)
        answer = await core.list_pod_for_all_namespaces_without_preload_content(watch=True)
        seen = 0
        while line := await answer.content.readline():
            seen += "object" in json.loads(line)
            if seen == count:
                break
        answer.close()
        return seen


async def dicts(host: str, count: int) -> int:
    """Watch with its `Watch`, which returns plain objects."""
    async with client.ApiClient(configuration(host)) as api:
        core = client.CoreV1Api(api)
        return await _counted(watch.Watch("object").stream(core.list_pod_for_all_namespaces), count)


async def models(host: str, count: int) -> int:
    """Watch with its `Watch`, which returns models."""
    async with client.ApiClient(configuration(host)) as api:
        core = client.CoreV1Api(api)
        return await _counted(watch.Watch().stream(core.list_pod_for_all_namespaces), count)


async def _counted(found: AsyncIterator[Any], count: int) -> int:
    seen = 0
    async for _ in found:
        seen += 1
        if seen == count:
            break
    return seen


async def by_kopf(host: str, count: int) -> int:
    """Watch with kopf, and a handler that does nothing."""
    registry, seen, stop = kopf.OperatorRegistry(), 0, asyncio.Event()

    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=host)

    async def see(**_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            stop.set()

    kopf.on.login(registry=registry)(log_in)
    kopf.on.event("", "v1", "pods", registry=registry)(see)
    settings = kopf.OperatorSettings()
    settings.posting.enabled, settings.scanning.disabled = False, True
    await kopf.operator(
        registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop
    )
    return seen


@functools.cache
def _gang() -> Gang:
    spec = JobSpec.from_manifest(job(0))
    return Gang(spec, Attempt.full(spec))


@functools.cache
def _body() -> Manifest:
    """The body of a creation, whose rendering is not counted."""
    body: Manifest = json.loads(_gang().pod(0).body)
    return body


async def create_ours(host: str, count: int) -> int:
    """Create pods as the operator does: from bytes."""
    rendered = _gang().pod(0)
    async with connect(configuration(host)) as link:
        cluster = KubernetesCluster(link)
        return len([await cluster.create_pod(rendered) for _ in range(count)])


async def create_raw(host: str, count: int) -> int:
    """Create pods with the generated method and its undecoded response."""
    async with client.ApiClient(configuration(host)) as api:
        core, made = client.CoreV1Api(api), 0
        for _ in range(count):
            create = core.create_namespaced_pod_without_preload_content
            answer = await create(NAMESPACE, _body())
            made += bool(json.loads(await answer.read()))
        return made


async def create_models(host: str, count: int) -> int:
    """Create pods with the generated method, which returns models."""
    async with client.ApiClient(configuration(host)) as api:
        core = client.CoreV1Api(api)
        return len([await core.create_namespaced_pod(NAMESPACE, _body()) for _ in range(count)])


WATCHES: dict[str, Work] = {
    "ours": ours,
    "kubernetes.aio, raw": raw,
    "kubernetes.aio, dicts": dicts,
    "kubernetes.aio, models": models,
    "kopf": by_kopf,
}
CREATIONS_BY: dict[str, Work] = {
    "ours": create_ours,
    "kubernetes.aio, raw": create_raw,
    "kubernetes.aio, models": create_models,
}


def measure(ways: dict[str, Work], host: str, count: int) -> dict[str, float]:
    """The CPU time of this process for each of some things, in microseconds: medians."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            before = time.process_time()
            done = asyncio.run(work(host, count))
            if done < count:
                raise RuntimeError(f"{name} must do {count} things, and has done {done}")
            found[name].append((time.process_time() - before) / count * 1e6)
    return {name: statistics.median(times) for name, times in found.items()}


def lines(what: str, found: dict[str, float]) -> Iterator[str]:
    """The results, for people."""
    for name, micros in found.items():
        yield f"{what:<9} {name:<24} {micros:7.0f} us CPU  {micros / found['ours']:5.2f} x ours"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    given = [int(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    events, creations = given or (EVENTS, CREATIONS)
    with served(api_server, events) as port:
        host = f"http://127.0.0.1:{port}"
        for line in lines("event", measure(WATCHES, host, events)):
            say(line)
        for line in lines("creation", measure(CREATIONS_BY, host, creations)):
            say(line)


if __name__ == "__main__":
    main()
