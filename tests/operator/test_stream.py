"""A watch shows every change once, in order, whatever ends it."""

import asyncio
import json
import math
from typing import Any

import pytest
from aiohttp import web

from acceleratedjob.cluster import Change, Listed
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.errors import ClusterError, NoAnswer, Refused, Unavailable, Unreachable
from acceleratedjob.kube import informer
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import SHORT_SECONDS, Stream
from tests.operator.talking import answering

PATH = "/api/v1/pods"
Script = list[tuple[int, Any]]  # status and body of each answer; a list of events is a watch


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": f"{version}"}}


def page(*names: str, version: int = 9, more: str = "") -> tuple[int, Any]:
    metadata = {"resourceVersion": f"{version}", "continue": more}
    return 200, {"items": [pod(name, version) for name in names], "metadata": metadata}


def events(*told: tuple[str, str, int]) -> tuple[int, Any]:
    return 200, [{"type": kind, "object": pod(name, version)} for kind, name, version in told]


def long(name: str, version: int) -> str:
    """A change of a pod with many characters that JSON writes as six bytes."""
    made = pod(name, version) | {"spec": "<" * 1_430_000}
    text = json.dumps({"type": "MODIFIED", "object": made})
    return text.replace("<", "\\u003c")


def deep(name: str, version: int) -> str:
    """A change of an object that is nested as deep as the API server takes it."""
    text = json.dumps({"type": "MODIFIED", "object": pod(name, version) | {"spec": 1}})
    return text.replace('"spec": 1', f'"spec": {"[" * 9_900}{"]" * 9_900}')


UNREADABLE = (
    *("<html>", "[1]", "1", "{}", '{"type": "ADDED"}', '{"type": "ADDED", "object": 1}'),
    *('{"type": "ADDED", "object": {}}', '{"type": "ADDED", "object": {"metadata": {}}}'),
    *('{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}', '{"type": "ERROR"}'),
    *('{"type": "ADDED", "object": {"metadata"', "\ufeff{}"),
)


NO_PAGES: tuple[Any, ...] = (
    *({}, {"items": 1}, {"items": [1]}, {"items": [], "metadata": None}, "x"),
)


def lines(*written: str) -> tuple[int, Any]:
    """A watch that sends these lines."""
    return 200, b"".join(one.encode() + b"\n" for one in written)


def shown(change: Change) -> tuple[str, ...]:
    objects = change.objects if isinstance(change, Listed) else (change.object,)
    return (type(change).__name__, *(one["metadata"]["name"] for one in objects))


async def follow(script: Script, count: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """So many changes, and what was asked: a list's `continue`, a watch's version."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        is_watch = "watch" in request.query
        asked.append(
            f"from {request.query['resourceVersion']}"
            if is_watch
            else f"list {request.query.get('continue', '')}".strip()
        )
        if len(asked) > len(script):
            await asyncio.Event().wait()
        status, body = script[len(asked) - 1]
        if isinstance(body, str | bytes):
            return web.Response(status=status, body=body)
        entries = body if isinstance(body, list) else [body]
        return web.Response(status=status, text="".join(json.dumps(one) + "\n" for one in entries))

    found: list[tuple[str, ...]] = []
    async with asyncio.timeout(600), answering(answer) as link:
        changes = Stream(link, PATH, "Pod", None, Pulse((PATH,))).changes()
        while len(found) < count:
            found.append(shown(await anext(changes)))
    return found, asked[: len(script)]


@pytest.mark.parametrize(
    ("script", "found", "asked"),
    [
        pytest.param(
            [page("a", version=5, more="next"), page("b", version=5)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "list next"],
            id="a list comes page by page",
        ),
        pytest.param(
            [page("a", version=5, more="next"), (410, {}), page("b", version=9)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "list next", "list"],
            id="a list whose next page is too old begins again with its first",
        ),
        pytest.param(
            [(200, {}), (200, {"items": 1, "metadata": {}}), (200, 7), page("b", version=9)],
            [("Listed", "b")],
            ["list", "list", "list", "list"],
            id="what is no list is asked for again",
        ),
        pytest.param(
            [page("a", version=5), (200, ["no event"]), page("b", version=9)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "from 5", "list"],
            id="an event that cannot be read is a gap, and all is listed again",
        ),
        pytest.param(
            [page("a", version=5), (200, "<html>, says a proxy\n"), page("b", version=9)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "from 5", "list"],
            id="a line that is not JSON is a gap",
        ),
        pytest.param(
            [page("a", version=5), (200, [{"type": "ERROR", "object": {"code": 500}}]), page("b")],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "from 5", "list"],
            id="any error in the watch is a gap",
        ),
        pytest.param(
            [page(version=5), events(("ADDED", "a", 6), ("MODIFIED", "a", 7), ("DELETED", "a", 8))],
            [("Listed",), ("Changed", "a"), ("Changed", "a"), ("Gone", "a")],
            ["list", "from 5"],
            id="changes as they come",
        ),
        pytest.param(
            [page(version=5), events(("ADDED", "a", 6)), events(("ADDED", "b", 7))],
            [("Listed",), ("Changed", "a"), ("Changed", "b")],
            ["list", "from 5", "from 6"],
            id="a watch that ends goes on behind the last change",
        ),
        pytest.param(
            [page(version=5), events(("BOOKMARK", "", 9)), events(("ADDED", "a", 10))],
            [("Listed",), ("Changed", "a")],
            ["list", "from 5", "from 9"],
            id="a bookmark is no change, and what is behind it is not asked for again",
        ),
        pytest.param(
            [page("a", version=5), events(("ERROR", "", 0)), page("b", version=20)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "from 5", "list"],
            id="a version that is too old, told in the watch",
        ),
        pytest.param(
            [page("a", version=5), (410, {}), page("b", version=20)],
            [("Listed", "a"), ("Listed", "b")],
            ["list", "from 5", "list"],
            id="a version that is too old, told by the status",
        ),
        pytest.param(
            [page(version=5), lines(long("a", 6)), events(("ADDED", "b", 7))],
            [("Listed",), ("Changed", "a"), ("Changed", "b")],
            ["list", "from 5", "from 6"],
            id="a line of 9 MB, which a pod of 1.5 MB can be, is read as any other",
        ),
        pytest.param(
            [page(version=5), lines(deep("a", 6)), events(("ADDED", "b", 7))],
            [("Listed",), ("Changed", "a"), ("Changed", "b")],
            ["list", "from 5", "from 6"],
            id="an object that is nested deeper than Python goes is read without its depth",
        ),
        *(
            pytest.param(
                [page(version=5), lines(line), page("a", version=9), events(("ADDED", "b", 10))],
                [("Listed",), ("Listed", "a"), ("Changed", "b")],
                ["list", "from 5", "list", "from 9"],
                id=f"a line that cannot be read is a relist: {line}",
            )
            for line in UNREADABLE
        ),
        *(
            pytest.param(
                [(200, said), page("a", version=9)],
                [("Listed", "a")],
                ["list", "list"],
                id=f"a page that is none is asked for again: {said}",
            )
            for said in NO_PAGES
        ),
        pytest.param(
            [(404, {}), (404, {}), page(version=1)],
            [("Listed",)],
            ["list", "list", "list"],
            id="a kind that is not there yet",
        ),
        pytest.param(
            [page(version=5), (500, {}), events(("ADDED", "a", 6))],
            [("Listed",), ("Changed", "a")],
            ["list", "from 5", "from 5"],
            id="an error loses nothing, and nothing is listed again for it",
        ),
    ],
)
def test_what_a_watch_shows(script: Script, found: list[tuple[str, ...]], asked: list[str]) -> None:
    assert asyncio.run(follow(script, len(found))) == (found, asked)


async def unasked(_: web.Request) -> web.Response:
    raise AssertionError("nothing is to be asked")


@pytest.mark.parametrize(
    ("error", "age"),
    [
        pytest.param(NoAnswer("refused"), 0, id="a refusal to connect: the other side is there"),
        pytest.param(NoAnswer("", silent=True), 60, id="silence"),
        pytest.param(Unreachable("who is this?"), 60, id="a stranger"),
        pytest.param(Unavailable("(500)"), 0, id="an answer that is an error"),
        pytest.param(Refused("(403)", final=False), 0, id="a refusal"),
    ],
)
def test_what_counts_as_having_heard_of_the_other_side(error: ClusterError, age: float) -> None:
    async def heard() -> float:
        now = 0.0
        pulse = Pulse((PATH,), clock=lambda: now)
        async with answering(unasked) as link:
            stream = Stream(link, PATH, "Pod", None, pulse)
            now = 60.0
            assert stream._seconds_after(error) == 0.5
            return pulse.age

    assert asyncio.run(heard()) == age


def test_waits_grow_while_nothing_is_had_and_are_short_again_after_a_watch() -> None:
    async def waits() -> list[float]:
        async def answer(request: web.Request) -> web.Response:
            entries = events(("ADDED", "a", 6)) if "watch" in request.query else page(version=5)
            told = entries[1] if isinstance(entries[1], list) else [entries[1]]
            return web.Response(text="".join(json.dumps(one) + "\n" for one in told))

        async with asyncio.timeout(600), answering(answer) as link:
            stream = Stream(link, PATH, "Pod", None, Pulse((PATH,)))
            grown = [stream._backoff.next(PATH) for _ in range(8)]
            changes = stream.changes()
            assert [shown(await anext(changes)) for _ in range(2)]
            return [*grown, stream._backoff.next(PATH)]

    assert asyncio.run(waits()) == [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5]


class Beats(Pulse):
    """Sets an event when something is received."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__(paths)
        self.beat = asyncio.Event()

    def hear(self, path: str) -> None:
        super().hear(path)
        self.beat.set()


def test_waits_are_short_again_after_a_quiet_watch_that_was_open_for_long_and_is_lost() -> None:
    """Nobody ends it well: its connection is reset, as by a proxy that is restarted."""

    async def wait() -> float:
        opened, again = asyncio.Event(), asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            if "watch" not in request.query:
                return web.json_response(page(version=5)[1])
            if opened.is_set():
                again.set()
            opened.set()
            pulse.beat.clear()
            response = web.StreamResponse()
            await response.prepare(request)
            await pulse.beat.wait()  # its client counts the time from here
            await asyncio.sleep(SHORT_SECONDS + 0.1)
            assert request.transport
            request.transport.abort()
            return response

        async def read() -> None:
            async for _ in stream.changes():
                pass

        pulse = Beats((PATH,))
        async with asyncio.timeout(600), answering(answer) as link:
            stream = Stream(link, PATH, "Pod", None, pulse)
            assert [stream._backoff.next(PATH) for _ in range(6)][-1] == 16
            reading = asyncio.create_task(read())
            await again.wait()
            reading.cancel()
            return stream._backoff.next(PATH)

    assert asyncio.run(wait()) == 1


class Waits(Backoff):
    """Notes how long each wait would be, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__(initial=0.5)
        self.noted: list[float] = []

    def next(self, key: str) -> float:
        self.noted.append(super().next(key))
        return 0


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        pytest.param([], [0.5, 1, 2, 4], id="nothing is told: longer and longer"),
        pytest.param([("ERROR", "", 0)], [0.5, 1, 2, 4], id="an error is told: longer and longer"),
        pytest.param([("ADDED", "a", 6)], [], id="something is told: at once"),
    ],
)
def test_how_soon_a_watch_is_begun_again_that_has_ended_at_once(
    told: list[tuple[str, str, int]], waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server or a proxy may end each watch with 200."""
    monkeypatch.setattr(informer, "SHORT_SECONDS", math.inf)  # however slow the machine is

    async def noted() -> list[float]:
        count, fifth = 0, asyncio.Event()

        async def answer(request: web.Request) -> web.Response:
            nonlocal count
            if "watch" not in request.query:
                return web.json_response(page(version=5)[1])
            count += 1
            if count == 5:
                fifth.set()
                await asyncio.Event().wait()
            entries = [{**one, "object": one["object"]} for one in events(*told)[1]]
            for one in entries:
                one["object"]["metadata"]["resourceVersion"] = str(5 + count)
            return web.Response(text="".join(json.dumps(one) + "\n" for one in entries))

        async def read() -> None:
            async for _ in stream.changes():
                pass

        async with answering(answer) as link:
            stream = Stream(link, PATH, "Pod", None, Pulse((PATH,)))
            stream._backoff = backoff = Waits()
            reading = asyncio.create_task(read())
            await fifth.wait()
            reading.cancel()
        return backoff.noted

    assert asyncio.run(noted()) == waits


def test_the_pages_of_a_list_have_its_version_and_say_whether_more_follow() -> None:
    answers = {"": page("a", version=5, more="next"), "next": page("b", version=5)}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(answers[request.query["continue"]][1])

    async def pages() -> list[Listed]:
        async with answering(answer) as link:
            return [each async for each in Stream(link, PATH, "Pod", None, Pulse((PATH,))).pages()]

    found = [(len(one.objects), one.version, one.more) for one in asyncio.run(pages())]
    assert found == [(1, 5, True), (1, 5, False)]
