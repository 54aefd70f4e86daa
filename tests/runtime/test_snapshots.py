"""Copies of states in CPU memory: the bytes, which memory they take, and what they cost."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.checkpoint import transfer
from runtime.checkpoint.formats import Part
from runtime.checkpoint.snapshot import Snapshots

RANGE, SMALL = transfer._RANGE, transfer._SMALL


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def numbered(bytes_: int, first: int = 0) -> torch.Tensor:
    """Bytes that are different at each place."""
    return torch.arange(first, first + bytes_ // 8 + 1).view(torch.uint8)[:bytes_].clone()


@given(st.integers(0, 3 * RANGE), st.integers(0, 2**40), st.integers(0, 2**40))
def test_the_ranges_of_a_storage_are_all_of_its_bytes_once(bytes_: int, to: int, at: int) -> None:
    covered = 0
    for target, source, size in transfer._divided(to, at, bytes_):
        assert (target - to, source - at) == (covered, covered)
        assert 0 < size <= RANGE
        covered += size
    assert covered == bytes_


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([0, 1, SMALL - 1, SMALL, SMALL + 1], id="around the size that threads copy"),
        pytest.param([RANGE, RANGE + 1], id="around the size of a range"),
        pytest.param([2 * RANGE + 7], id="one large tensor"),
    ],
)
def test_every_byte_is_copied(sizes: list[int], number: int) -> None:
    state = [numbered(size, first) for first, size in enumerate(sizes)]
    snapshots = Snapshots()
    with threads(number):
        for _ in range(2):  # to memory that is new, and to memory that is used again
            copied = snapshots.take(state)
            assert all(map(torch.equal, copied, state))
            for one in state:
                one.add_(1)
            pairs = zip(copied, state, strict=True)
            assert not any(torch.equal(one, other) for one, other in pairs if len(one))


def test_one_large_tensor_is_copied_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)  # one thread alone cannot pass it

    def copy(one: tuple[int, int, int], copy: Callable[..., None] = transfer._copy) -> None:
        both.wait()
        copy(one)

    monkeypatch.setattr(transfer, "_copy", copy)
    state = numbered(2 * RANGE)
    with threads(2):
        assert torch.equal(Snapshots().take([state])[0], state)


def calls(run: Callable[[], Any]) -> int:
    """The number of Python and C functions that are called."""
    found = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal found
        found += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def state_of(tensors: int) -> list[Part]:
    weights = OrderedDict((str(i), torch.full((4,), i)) for i in range(tensors))
    moments = {i: {"exp_avg": torch.full((4,), i)} for i in range(tensors)}
    return [Part("model", weights), Part("optimizer", {"state": moments})]


def test_a_small_tensor_of_a_state_costs_few_calls() -> None:
    """Each takes some 0.1 us; `copy.deepcopy` of a tensor alone makes more."""
    snapshots, few, many = Snapshots(), state_of(10), state_of(1010)
    for state in (few, many):
        snapshots.take(state)
    costs = []
    for state in (few, many):
        snapshots.take(state)
        costs.append(calls(lambda state=state: snapshots.take(state)))  # type: ignore[misc]
    assert (costs[1] - costs[0]) / 2000 < 60


class Named(dict[str, Any]):
    """A script's own container."""


def in_circles() -> dict[str, Any]:
    state: dict[str, Any] = {"weight": torch.ones(2)}
    state["self"] = state
    return state


def test_a_container_may_contain_itself() -> None:
    state = in_circles()
    copied = Snapshots().take(state)
    assert copied["self"] is copied is not state
    assert copied["weight"].tolist() == [1, 1]


def test_a_tensor_that_is_in_a_state_twice_is_one_tensor_in_its_copy() -> None:
    one = torch.ones(2)
    copied = Snapshots().take([one, {"again": one}, Named(third=one)])
    assert copied[0] is copied[1]["again"] is copied[2]["third"] is not one


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "whole": lambda one: one,
    "transposed": lambda one: one.view(2, -1).t(),
    "a part": lambda one: one[3:7],
    "bits": lambda one: one.view(torch.int32),
    "with a gradient": lambda one: one.detach().requires_grad_(),
}


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=1), min_size=1, max_size=4))
def test_memory_that_is_used_again_has_what_the_next_state_has(states: list[list[str]]) -> None:
    """Whatever the layouts of the tensors before it, and whether they share storages."""
    snapshots = Snapshots()
    for number, layouts in enumerate(states):
        base = torch.arange(8.0) + number
        state = [LAYOUTS[name](base if i % 2 else base + i) for i, name in enumerate(layouts)]
        copied = snapshots.take(state)
        assert all(map(torch.equal, copied, state))
        for one, other in zip(copied, state, strict=True):
            assert (one.dtype, one.stride(), one.storage_offset(), one.requires_grad) == (
                *(other.dtype, other.stride(), other.storage_offset(), other.requires_grad),
            )
        places = [[one.untyped_storage().data_ptr() for one in each] for each in (copied, state)]
        assert len(set(places[0])) == len(set(places[1]))
        assert not set(places[0]) & set(places[1])
