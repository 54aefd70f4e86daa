"""A list of all pods of a large cluster needs the memory of one page of it, and of what is kept."""

import asyncio
import tracemalloc

from aiohttp import web

from acceleratedjob.api import names
from acceleratedjob.cluster import Changed
from acceleratedjob.controller.cache import Cache
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import PAGE, Stream
from bench.operator.relist import REPLICAS, answer, job
from tests.operator.talking import answering

PODS = 4 * PAGE
PATH = collection("Pod", None)


async def peaks() -> tuple[float, float, int]:
    """MiB at most in one page, MiB at most in all of them, and how many pods are known then."""
    cache, count = Cache(), 0
    pages = [web.json_response(answer({"limit": PAGE, "continue": n}, PODS)).body for n in PAGES]
    for number in range(PODS // REPLICAS):
        cache.take(names.KIND, Changed(job(number)))

    async def page_of(request: web.Request) -> web.Response:
        return web.Response(body=pages[int(request.query.get("continue") or 0) // PAGE])

    async with answering(page_of) as link:
        tracemalloc.start()
        first = 0.0
        async for page in Stream(link, PATH, "Pod", None, Pulse(())).pages():
            cache.take("Pod", page)
            first = first or tracemalloc.get_traced_memory()[1] / 2**20
        most = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    for number in range(PODS // REPLICAS):
        count += len(cache.pods(job(number)["metadata"]["uid"]))
    return first, most, count


PAGES = range(0, PODS, PAGE)


def test_no_more_than_two_pages_are_in_memory_at_once() -> None:
    first, most, count = asyncio.run(peaks())
    assert count == PODS - PODS % REPLICAS
    assert most < 2.5 * first, "four pages would be four times as much"
