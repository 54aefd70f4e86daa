"""Any number of hostile jobs beside a healthy one: no step of the operator's takes long.

`ACCELERATEDJOB_HOSTILE=10000` asks for more than the few hundred that are made every time.
"""

import asyncio
import gc
import json
import os
import time
from collections import Counter

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.bounds import bounded
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import utc_now
from acceleratedjob.cluster import Changed
from acceleratedjob.kube.decoding import decode
from acceleratedjob.local.cluster import LocalCluster
from tests.operator import hostile
from tests.operator.builders import job
from tests.operator.lives import background, operate
from tests.operator.node import FOREVER, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

COUNT = int(os.environ.get("ACCELERATEDJOB_HOSTILE", "200"))
BLOCKED = 1.0  # seconds
HEALTHY = "digits"  # told of when its pods are ready


class Clock:
    """Notes how long the loop was blocked at most, in seconds of this thread's CPU."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - began)


async def store_all(store: LocalCluster) -> Counter[str]:
    """Read the jobs as an API server sends them, and store what is left of them."""
    found = Counter[str]()
    for number, body in enumerate(hostile.jobs("research", COUNT)):
        read = bounded(await decode(body))
        read["metadata"]["uid"] = f"hostile-{number}"
        found["beyond the bounds"] += "spec" not in read
        await store.create(read)
        await asyncio.sleep(0)
    return found


async def all_told(store: LocalCluster) -> dict[str, str]:
    """What is said of each job, once something is said of all."""
    words: dict[str, str] = {}
    silent: set[str] = set()
    async for change in store.watch(names.KIND):
        if isinstance(change, Changed):
            name, word = change.object["metadata"]["name"], hostile.told(change.object)
            if name == HEALTHY and not Status.from_manifest(change.object).ready:
                word = ""
            words[name] = word
            (silent.discard if word else silent.add)(name)
            if len(words) > COUNT and not silent:
                return words
    raise AssertionError  # a watch does not end


async def scenario(clock: Clock) -> Counter[str]:
    """How many jobs were what, when all are told and the healthy one runs."""
    store = LocalCluster()
    node = Node(store, lambda _attempt, _index: FOREVER)
    async with background(clock.run(), node.run(), operate(store, store, utc_now)):
        telling = asyncio.create_task(all_told(store))
        found = await store_all(store)
        await store.create(job())
        words = await telling
    return found + Counter(words.values())


def test_no_step_takes_long_whatever_a_job_is(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    began = time.monotonic()
    gc.freeze()  # what thousands of other tests have left is not the operator's to look through
    try:
        found = asyncio.run(scenario(clock))
    finally:
        gc.unfreeze()
    with capsys.disabled():
        if COUNT > 1000:  # a person waits for the figures
            figures = {"seconds": time.monotonic() - began, "blocked": clock.longest}
            print(json.dumps(figures | found))  # noqa: T201
    assert clock.longest < BLOCKED
    assert min(found["refused"], found["suspended"], found["beyond the bounds"]) > COUNT // 50
