"""The event loop has its turn however many jobs there are; a garbage collection is short."""

import asyncio
import copy
import gc
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web

from acceleratedjob.api import names
from acceleratedjob.api.bounds import bounded
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import Changed, Listed
from acceleratedjob.controller.cache import Cache
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import Stream
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manager.readable import Lines, Pauses, packed, unpacked
from tests.operator.builders import NOW, job
from tests.operator.lives import background
from tests.operator.stages import RUNNING
from tests.operator.talking import answering

MANY = 200


def numbered(number: int, **spec: Any) -> Manifest:
    """One of many jobs."""
    made = job(**spec)
    name = f"job-{number}"
    made["metadata"] |= {"name": name, "uid": name, "resourceVersion": f"{number + 1}"}
    return made


async def most_in_a_turn(count: Callable[[], int], enough: int) -> int:
    """How much was done in one turn of the loop at most, until there is enough."""
    most, before = 0, count()
    async with asyncio.timeout(600):
        while before < enough:
            await asyncio.sleep(0)
            most, before = max(most, count() - before), count()
    return most


@pytest.mark.parametrize("told", [False, True], ids=["all are new", "nothing is to be written"])
def test_one_job_is_looked_at_in_a_turn_of_the_loop(told: bool) -> None:
    passes = 0

    def now() -> datetime:
        nonlocal passes
        passes += 1
        return NOW

    async def scenario() -> int:
        store = LocalCluster()
        controller = Controller(store, now=now)
        for number in range(MANY):
            made = numbered(number, suspend=True)
            controller.see(await store.create(made))
        async with background(controller.run()):
            if told:
                await all_are_told(store)
                for found in store.objects(names.KIND):
                    controller.see(found)
            return await most_in_a_turn(lambda: passes, passes + MANY)

    assert asyncio.run(scenario()) == 1


async def all_are_told(store: LocalCluster) -> None:
    """Wait until each of the jobs has a status."""
    told = set[str]()
    async for change in store.watch(names.KIND):
        if isinstance(change, Changed) and change.object.get("status"):
            told.add(change.object["metadata"]["uid"])
        if len(told) == MANY:
            return


def event(number: int) -> bytes:
    return json.dumps({"type": "ADDED", "object": numbered(number)}).encode() + b"\n"


async def changes(lines: bytes) -> AsyncGenerator[object]:
    """What a watch of ours shows of lines that come all at once."""

    async def answer(request: web.Request) -> web.Response:
        if "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        return web.Response(body=lines)

    async with answering(answer) as link:
        stream = Stream(link, "/api/v1/pods", "Pod", None, Pulse(()))
        async for change in stream.changes():
            if isinstance(change, Changed):
                yield change


async def kopfs(lines: bytes) -> AsyncGenerator[object]:
    """The same for kopf's watch."""
    reader = asyncio.StreamReader(limit=len(lines))
    reader.feed_data(lines)

    class Reader:
        async def readline(self, **_: Any) -> bytes:
            return await reader.readline()

    found: Any = Reader()
    async for one in Lines(found, "jobs", Pauses()).iter_chunked(0):
        yield one


@pytest.mark.parametrize("watch", [changes, kopfs])
def test_one_line_of_a_watch_is_taken_in_a_turn_of_the_loop(
    watch: Callable[[bytes], AsyncGenerator[object]],
) -> None:
    async def scenario() -> int:
        seen = 0

        async def take() -> None:
            nonlocal seen
            async with aclosing(watch(b"".join(map(event, range(MANY))))) as shown:
                async for _ in shown:
                    seen += 1

        async with background(take()):
            return await most_in_a_turn(lambda: seen, MANY)

    assert asyncio.run(scenario()) == 1


def with_volumes(number: int, volumes: list[Manifest]) -> Manifest:
    """A job of many values, none of which is another's."""
    made = numbered(number)
    made["spec"]["template"]["spec"]["volumes"] = volumes
    return copy.deepcopy(made)


def walked() -> int:
    """How many objects the garbage collector walks through."""
    gc.collect()
    return len(gc.get_objects())


def test_a_known_job_is_little_work_for_the_garbage_collector() -> None:
    cache = Cache()
    volumes = [{"name": f"v{number}", "emptyDir": {}} for number in range(300)]
    before = walked()
    for number in range(MANY):
        cache.keep_job(with_volumes(number, volumes))
    assert walked() - before < 5 * MANY
    kept = cache.jobs["job-7"]
    assert kept["spec"]["template"]["spec"]["volumes"] == volumes
    assert (len(cache.jobs), "job-7" in cache.jobs) == (MANY, True)
    cache.forget("job-7")
    assert (len(cache.jobs), "job-7" in cache.jobs) == (MANY - 1, False)


def test_phases_are_counted_without_the_jobs() -> None:
    cache = Cache()
    cache.keep_job(numbered(0))
    for number in (1, 2):
        cache.keep_job(numbered(number) | {"status": RUNNING.to_manifest()})
    assert cache.jobs.phases() == {None: 1, "Running": 2}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(numbered(1), id="a job"),
        pytest.param(numbered(1) | {"status": RUNNING.to_manifest()}, id="one with a status"),
        pytest.param(numbered(1, template={"a": [[]] * 60_000}), id="one beyond the bounds"),
    ],
)
def test_kopf_sees_a_job_as_one_text_of_which_all_is_had_again(given: Manifest) -> None:
    shown = packed(given)
    assert sum(isinstance(one, dict | list) for one in shown.values()) == 1  # its metadata
    assert shown["metadata"] == given["metadata"]
    assert unpacked(shown) == bounded(given)
    of_a_list = packed({name: given[name] for name in given if name not in ("apiVersion", "kind")})
    assert unpacked(of_a_list | {"apiVersion": "a", "kind": "b"}) == bounded(given) | {
        "apiVersion": "a",
        "kind": "b",
    }


def test_the_jobs_of_a_list_are_known_page_by_page() -> None:
    """All of them in one turn of the loop would be seconds, and in memory at once as objects."""
    cache = Cache()
    cache.keep_job(numbered(9) | {"status": {}})
    for number in range(3):
        page = Listed((numbered(number),), version=20, more=number < 2)
        gone = {"job-9"} if number == 2 else set[str]()
        assert cache.take(names.KIND, page) == {f"job-{number}"} | gone
        assert f"job-{number}" in cache.jobs
    assert set(cache.jobs) == {"job-0", "job-1", "job-2"}
