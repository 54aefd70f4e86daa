"""JSON from an API server: read whatever it is, as Python's own decoder reads it where that can."""

import asyncio
import contextlib
import gc
import json
import random
from itertools import pairwise
from typing import Any

import pytest

from acceleratedjob.kube import decoding
from acceleratedjob.kube.decoding import MAX_DEPTH, cut, decode


def nested(depth: int) -> bytes:
    """A list in a list in a list."""
    return b"[" * depth + b"]" * depth


def depth_of(value: Any) -> int:
    """How deep a value is nested, without going into it by recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [b for a in level for b in (a.values() if isinstance(a, dict) else a)]
    return depth


LIST = {"kind": "PodList", "metadata": {"continue": ""}, "items": [{"a": [1]}, {}, {"b": '}"]'}]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(LIST), id="a list, as the API server writes it"),
        pytest.param(json.dumps(LIST, indent=2), id="with spaces and line breaks"),
        pytest.param(json.dumps(LIST, ensure_ascii=False) + "\n", id="with one at the end"),
        pytest.param('{"items":[]}', id="an empty list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"items":null,"metadata":{"items":[1]}}', id="items that are none"),
        pytest.param("[1,2]", id="no object"),
        pytest.param('"\\ud83d\\ude00 ü"', id="a text"),
    ],
)
def test_a_text_is_decoded_as_json_loads_does(text: str) -> None:
    assert asyncio.run(decode(text.encode(), lambda entry: entry)) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"items":[', b'{"items":[{}'),
        *(b'{"items":[{}{}]}', b'{"a":1}x', b"{1:2}x", b'{"items":[{},}', b"\xff", b"<html>"),
    ],
)
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        asyncio.run(decode(text, lambda entry: entry))
    assert not isinstance(error.value, RecursionError)


@pytest.mark.parametrize("depth", [1, 150, MAX_DEPTH, 960, 990, 4_000, 10_000])
def test_an_object_of_any_depth_is_decoded_with_what_is_beside_the_deep_part(depth: int) -> None:
    text = b'{"before":1,"deep":%s,"items":[{"deep":{"x":%s}},2],"after":[[]]}'
    found = asyncio.run(decode(text % (nested(depth), nested(depth))))
    assert (found["before"], found["items"][1], found["after"]) == (1, 2, [[]])
    if depth <= MAX_DEPTH - 4:
        assert depth_of(found["deep"]) == depth
    else:
        assert depth_of(found["deep"]) >= MAX_DEPTH - 4
        assert depth_of(found["items"][0]) >= MAX_DEPTH - 4


@pytest.mark.parametrize("seed", range(200))
def test_what_is_cut_is_json_of_the_bounded_depth_and_else_the_same(seed: int) -> None:
    chance = random.Random(seed)

    def anything(depth: int) -> Any:
        if depth == 0:
            return chance.choice(['"', "\\", "[{", "\\\\]", "é\n", 1, None, {}, []])
        inner = [anything(depth - 1), *(anything(0) for _ in range(chance.randrange(3)))]
        chance.shuffle(inner)
        return inner if chance.random() < 0.5 else {f'"{n}]': one for n, one in enumerate(inner)}

    value = anything(depth := chance.choice([0, 1, 5, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 30]))
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    found = json.loads(cut(text.encode()))
    assert depth_of(found) <= MAX_DEPTH
    if depth < MAX_DEPTH:
        assert found == value


@pytest.mark.parametrize(
    ("entry", "is_cut"),
    [
        pytest.param(b"[" + b"[]," * 450_000 + b"0]", False, id="wide: half a million lists"),
        pytest.param(b'"' + b"\\u003c" * 1_400_000 + b'"', False, id="1.4 MB of <"),
        pytest.param(
            nested(9_000)[:9_000] + b"[]," * 200_000 + b"0" + b"]" * 9_000, True, id="both"
        ),
    ],
)
def test_the_loop_has_its_turn_between_a_lists_entries_and_while_they_are_cut(
    entry: bytes, is_cut: bool
) -> None:
    text = b'{"items":[%s]}' % b",".join([b'{"x":%s}' % entry] * 6)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read() -> Any:
        taking = asyncio.create_task(take_turns())
        found = await decode(text, lambda _: turns)
        taking.cancel()
        return found

    at = asyncio.run(read())["items"]
    assert len(at) == 6
    assert all(before < after for before, after in pairwise(at))
    assert (at[0] > 0) == is_cut


def test_what_is_small_is_decoded_at_once() -> None:
    assert decoding._AT_ONCE == 2**18
    assert asyncio.run(decode(b'{"items":[{"a":1}]}')) == {"items": [{"a": 1}]}


@pytest.mark.parametrize("end", [b"0]", b""], ids=["JSON", "none"])
def test_the_garbage_collector_does_not_walk_again_and_again_while_a_value_is_decoded(
    end: bytes,
) -> None:
    begun: list[str] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        begun.append(phase)

    gc.collect()
    gc.callbacks.append(note)
    with contextlib.suppress(ValueError):
        asyncio.run(decode(b"[" + b"[]," * 100_000 + end))
    gc.callbacks.remove(note)
    assert begun.count("start") < 5  # once for the new values, and for what the test makes
    assert gc.isenabled()
