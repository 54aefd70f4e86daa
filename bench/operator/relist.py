"""Measure the memory that the operator needs to list all pods of a cluster.

    python -m bench.operator.relist          10,000 pods, listed once, and again as after a gap
    python -m bench.operator.relist 1000     another number of pods

A server in another process returns pods page by page, with all fields that a kubelet and other
clients write in a real cluster.
"""

import asyncio
import functools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from acceleratedjob.api import names
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Changed
from acceleratedjob.controller.cache import Cache
from acceleratedjob.kube.client import connect
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import Stream
from acceleratedjob.manifests.pod import pod as manifest_of
from bench.command import say
from bench.operator.process import Process
from bench.operator.serving import Handler, served

PODS = 10_000
REPLICAS = 8  # per job
TIME = "2026-01-01T00:00:00Z"
_CONDITIONS = (
    *("PodScheduled", "Initialized", "ContainersReady", "Ready"),
    "PodReadyToStartContainers",
)


def job(number: int) -> Manifest:
    """Return a job, as an API server stores it."""
    container = {"name": "trainer", "image": "registry.example/train:1"}
    uid = f"{number:036d}"
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": f"job{number}",
            "namespace": "research",
            "uid": uid,
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": {"replicas": REPLICAS, "template": {"spec": {"containers": [container]}}},
    }


@functools.lru_cache(maxsize=1)
def _spec(number: int) -> JobSpec:
    return JobSpec.from_manifest(job(number))


def pod(number: int) -> Manifest:
    """Return a running pod, with the status that a kubelet writes."""
    spec = _spec(number // REPLICAS)
    made = manifest_of(spec, attempt=Attempt.full(spec), index=number % REPLICAS)
    made["metadata"] |= {
        "uid": f"{number:036x}",
        "resourceVersion": str(number + 2),
        "creationTimestamp": TIME,
        "managedFields": [_managed(manager) for manager in (names.COMPONENT, "kubelet")],
    }
    made["spec"]["nodeName"] = f"node-{number // REPLICAS}"
    status = {
        "phase": "Running",
        "conditions": [
            {"type": each, "status": "True", "lastTransitionTime": TIME} for each in _CONDITIONS
        ],
        "containerStatuses": [_container()],
    }
    return made | {"status": status}


def _managed(manager: str) -> Manifest:
    variable: Manifest = {".": {}, "f:name": {}, "f:value": {}}
    variables = {f'k:{{"name":"V{n}"}}': variable for n in range(25)}
    containers = {'k:{"name":"trainer"}': {"f:env": variables}}
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "time": TIME,
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {f"f:label{n}": {} for n in range(10)}},
            "f:spec": {"f:containers": containers},
        },
    }


def _container() -> Manifest:
    return {
        "name": "trainer",
        "ready": True,
        "restartCount": 0,
        "image": "registry.example/train:1",
        "imageID": "registry.example/train@sha256:" + "0" * 64,
        "containerID": "containerd://" + "0" * 64,
        "state": {"running": {"startedAt": TIME}},
        "lastState": {},
    }


def answer(query: Any, count: int) -> Manifest:
    """Return the page of a list of `count` pods that a query requests."""
    begin = int(query.get("continue") or 0)
    end = min(begin + int(query["limit"]), count)
    more = str(end) if end < count else ""
    metadata = {"resourceVersion": str(count + 2), "continue": more}
    return {"items": [pod(number) for number in range(begin, end)], "metadata": metadata}


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process, in MiB.

    Attributes:
        before: the memory before the list.
        first: the peak until all pods are listed.
        again: the peak until all pods are listed again.
    """

    before: float
    first: float
    again: float


def api_server(count: int) -> Handler:
    """Return the handler of lists of so many pods."""

    async def pages(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(answer(request.query, count)))

    return pages


async def measure(port: int, count: int) -> Memory:
    """List all pods twice, as the operator does."""
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    path, cache, peaks = collection("Pod", None), Cache(), [_peak()]
    for number in range(-(-count // REPLICAS)):
        cache.take(names.KIND, Changed(job(number)))
    async with connect(configuration) as link:
        for _ in range(2):
            async for page in Stream(link, path, "Pod", names.JOB_NAME_LABEL, Pulse(())).pages():
                cache.take("Pod", page)
            peaks.append(_peak())
    known = sum(len(cache.pods(job(n)["metadata"]["uid"])) for n in range(-(-count // REPLICAS)))
    if known != count:
        sentence = f"all {count} pods must be known, and {known} are"
        raise RuntimeError(sentence)
    return Memory(*peaks)


def _peak() -> float:
    """Return the peak memory of this process, in MiB."""
    return Process(os.getpid()).peak() / 2**20


def lines(count: int, memory: Memory) -> Iterator[str]:
    """Yield the lines of the report."""
    yield f"{count} pods, {len(json.dumps(pod(0))) / 1024:.1f} KiB of JSON each"
    yield f"memory before: {memory.before:.0f} MiB"
    yield f"at most, until all pods are listed: {memory.first:.0f} MiB"
    yield f"at most, until they are listed again: {memory.again:.0f} MiB"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the report."""
    given = sys.argv[1:] if arguments is None else arguments
    count = int(given[0]) if given else PODS
    with served(api_server, count) as port:
        memory = asyncio.run(measure(port, count))
    for line in lines(count, memory):
        say(line)


if __name__ == "__main__":
    main()
