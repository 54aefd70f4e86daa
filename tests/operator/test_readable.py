"""Kopf's own watch of the jobs goes on, whatever a job is and whatever a server says."""

import asyncio
import json
import time
from collections import Counter
from typing import Any

import kopf
import pytest
from aiohttp import web

from acceleratedjob.api import names as api
from acceleratedjob.api.bounds import UNREADABLE
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import Change, Changed, Gone
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.manager.jobs import Handlers, settings
from acceleratedjob.manager.readable import Pauses
from tests.operator.builders import job
from tests.operator.talking import answering

JOBS = collection(api.KIND, "research")
VERBS = {"namespaced": True, "verbs": ["list", "watch", "patch"]}
DISCOVERY: dict[str, Any] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "resources": [{"name": "namespaces", "singularName": "", "kind": "Namespace"} | VERBS]
    },
    "/apis": {
        "groups": [
            {
                "name": api.GROUP,
                "preferredVersion": {"version": api.VERSION},
                "versions": [{"version": api.VERSION}],
            }
        ]
    },
    f"/apis/{api.API_VERSION}": {
        "resources": [{"name": api.PLURAL, "singularName": "", "kind": api.KIND} | VERBS]
    },
}
QUICK = Backoff(initial=0.01, maximum=0.02)


def named(name: str) -> Manifest:
    """A job of a name."""
    made = job()
    made["metadata"] |= {"name": name, "uid": name, "resourceVersion": "7"}
    return made


def text(name: str, value: str) -> str:
    """A job's JSON, with a value in a volume of its template."""
    made = named(name)
    made["spec"]["template"]["spec"]["volumes"] = [{"x": "HERE"}]
    return json.dumps(made).replace('"HERE"', value)


class Seen:
    """Stands where a controller stands: notes what kopf shows."""

    def __init__(self) -> None:
        self.jobs: list[Manifest] = []
        self.changed = asyncio.Event()

    def take(self, kind: str, change: Change) -> None:
        """Take a job, or its end."""
        assert kind == api.KIND
        match change:
            case Changed(found):
                self.jobs.append(found)
            case Gone(found):
                self.jobs.append({"gone": found["metadata"]["uid"]})
            case _:
                raise AssertionError(change)
        self.changed.set()

    @property
    def names(self) -> list[str]:
        """The jobs' names in the order that they came."""
        return [found["metadata"]["name"] for found in self.jobs]


async def shown(lists: list[bytes], watches: list[bytes], count: int) -> tuple[Seen, Counter[str]]:
    """What kopf shows of a server's answers until it has shown so many, and what it asked."""
    seen, asked = Seen(), Counter[str]()

    async def answer(request: web.Request) -> web.Response:
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        verb, script = ("watch", watches) if "watch" in request.query else ("list", lists)
        asked[verb] += 1
        if verb == "watch" and asked[verb] > len(script):
            await asyncio.Event().wait()
        body = script[min(asked[verb], len(script)) - 1]
        return web.Response(body=body, content_type="application/json")

    async with answering(answer) as link:
        controllers: Any = {None: seen}
        handlers = Handlers(link.configuration, controllers, Pulse(()), pauses=Pauses(QUICK))
        operator = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(),
                settings=settings(Pulse(())),
                namespaces=("research",),
                standalone=True,
            )
        )
        async with asyncio.timeout(600):
            while len(seen.jobs) < count:
                await asyncio.wait(
                    (operator, asyncio.create_task(seen.changed.wait())),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                seen.changed.clear()
                if operator.done():
                    operator.result()
                    raise AssertionError("kopf has ended")
        operator.cancel()
        await asyncio.wait((operator,))
    return seen, asked


def page(*jobs: str) -> bytes:
    """A list of jobs."""
    return f'{{"items":[{",".join(jobs)}],"metadata":{{"resourceVersion":"5"}}}}'.encode()


def line(kind: str, one: str) -> bytes:
    """An event of a watch."""
    return f'{{"type":"{kind}","object":{one}}}\n'.encode()


HOSTILE = {
    "nested 970 levels deep, where decoders of different stacks differ": "[" * 960 + "]" * 960,
    "nested 4,000 levels deep": "[" * 4_000 + "]" * 4_000,
    "nested as deep as an API server takes": '{"a":' * 9_900 + "1" + "}" * 9_900,
    "of half a million lists": "[" + "[]," * 450_000 + "1]",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("where", ["list", "watch"])
def test_a_hostile_job_is_shown_with_what_is_wrong_and_the_next_one_as_it_is(
    value: str, where: str
) -> None:
    hostile, good = text("hostile", value), text("good", '"é😀"')
    lists = [page(hostile, good) if where == "list" else page()]
    watches = [] if where == "list" else [line("ADDED", hostile) + line("ADDED", good)]
    seen, asked = asyncio.run(shown(lists, watches, 2))
    found = {one["metadata"]["name"]: one for one in seen.jobs}
    assert "spec" not in found["hostile"]
    assert "must" in found["hostile"][UNREADABLE]
    assert found["good"] == json.loads(good)
    assert asked["list"] == 1


def test_1_4_mb_of_characters_that_are_six_bytes_in_json_are_a_usual_job() -> None:
    large = text("large", '"' + "\\u003c" * 1_430_000 + '"')
    seen, _ = asyncio.run(shown([page()], [line("ADDED", large)], 1))
    assert seen.jobs == [json.loads(large)]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"<html>\n", id="no JSON"),
        pytest.param(b"[1]\n", id="no event"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(line("ADDED", '{"kind":"x"}'), id="no object"),
        pytest.param(line("ERROR", '{"code":410}'), id="a version that is too old"),
        pytest.param(line("ERROR", '{"code":500,"message":"etcd"}'), id="the server's own trouble"),
    ],
)
def test_what_a_watch_says_that_cannot_be_read_is_listed_again(said: bytes) -> None:
    lists = [page(text("before", "1")), page(text("after", "1"))]
    seen, asked = asyncio.run(shown(lists, [said + line("ADDED", text("lost", "1"))], 2))
    assert seen.names == ["before", "after"]
    assert asked["list"] == 2


@pytest.mark.parametrize("said", [b"<html>", b"\xff", b""])
def test_a_list_that_cannot_be_read_is_asked_for_again(said: bytes) -> None:
    seen, asked = asyncio.run(shown([said, page(text("after", "1"))], [], 1))
    assert seen.names == ["after"]
    assert asked["list"] == 2


def test_a_watch_that_ends_at_once_is_not_begun_again_at_once() -> None:
    async def waits() -> list[float]:
        times = []
        pauses = Pauses(Backoff(initial=0.05, maximum=0.2))
        for _ in range(4):
            began = time.monotonic()
            await pauses.take("jobs", "it has ended")
            times.append(time.monotonic() - began)
        return times

    least = (0.05, 0.1, 0.2, 0.2)
    assert all(took >= one for took, one in zip(asyncio.run(waits()), least, strict=True))
    watches = [b""] * 3 + [line("ADDED", text("after", "1"))]
    seen, asked = asyncio.run(shown([page()], watches, 1))
    assert (seen.names, asked["watch"] >= 4) == (["after"], True)
