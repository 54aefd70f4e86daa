"""What is divided among processes: each kind stays its kind, and nothing is computed with."""

from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from runtime.world.splitting import split


class Squares(Dataset[int]):
    """A dataset with indices."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> int:
        return index**2


class Columns:
    """As Hugging Face's datasets: a slice is no dataset, `select` gives one."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return {"rows": self.rows[index]}

    def select(self, indices: list[int]) -> "Columns":
        return Columns([self.rows[index] for index in indices])


class Table(Columns):
    """As pandas' tables: rows by number are behind `iloc`."""

    @property
    def iloc(self) -> Any:
        rows = np.array(self.rows)

        class Rows:
            def __getitem__(self, indices: list[int]) -> list[int]:
                taken: list[int] = rows[indices].tolist()
                return taken

        return Rows()


def as_list(share: Any) -> Any:
    return share.tolist() if hasattr(share, "tolist") else [*share]


Case = tuple[Any, Callable[[Any], Any], list[Any], list[Any]]
# Five inputs, how a share is read, and what the second of two processes has; then filled up.
CASES: dict[str, Case] = {
    "a list": ([0, 1, 2, 3, 4], list, [3, 4], [3, 4, 4]),
    "a tuple": ((0, 1, 2, 3, 4), list, [3, 4], [3, 4, 4]),
    "a range": (range(5), list, [3, 4], [3, 4, 4]),
    "a deque": (deque([0, 1, 2, 3, 4]), list, [3, 4], [3, 4, 4]),
    "a tensor": (torch.arange(5), as_list, [3, 4], [3, 4, 4]),
    "numbers of numpy": (np.arange(5), as_list, [3, 4], [3, 4, 4]),
    "rows of numpy": (
        np.arange(10).reshape(5, 2),
        as_list,
        [[6, 7], [8, 9]],
        [[6, 7], [8, 9], [8, 9]],
    ),
    "a dataset": (Squares(), list, [9, 16], [9, 16, 16]),
    "a dataset with select": (
        Columns([0, 1, 2, 3, 4]),
        lambda share: share.rows,
        [3, 4],
        [3, 4, 4],
    ),
    "a table": (Table([0, 1, 2, 3, 4]), list, [3, 4], [3, 4, 4]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_second_of_two_processes_has_its_share_of(case: str) -> None:
    inputs, read, share, filled = CASES[case]
    assert read(split(inputs, 1, 2, padded=False)) == share
    assert read(split(inputs, 1, 2, padded=True)) == filled


@pytest.mark.parametrize("case", CASES)
def test_all_processes_together_have_each_input_once(case: str) -> None:
    inputs, read, *_ = CASES[case]
    for world in (1, 2, 3, 4, 7):
        parts = [read(split(inputs, rank, world, padded=False)) for rank in range(world)]
        assert list(chain(*parts)) == read(split(inputs, 0, 1, padded=False))
        even = [len(read(split(inputs, rank, world, padded=True))) for rank in range(world)]
        assert even == [-(-5 // world)] * world


@pytest.mark.parametrize(
    "kind", [dict, OrderedDict, UserDict, lambda values: defaultdict(list, values)]
)
def test_a_mapping_stays_one_and_its_values_are_divided(kind: Any) -> None:
    inputs = kind({"a": [1, 2, 3], "b": torch.arange(3)})
    share = split(inputs, 1, 2, padded=True)
    assert type(share) is type(inputs)
    assert (share["a"], share["b"].tolist()) == ([3, 3], [2, 2])
    assert inputs["a"] == [1, 2, 3]


@pytest.mark.parametrize("empty", [[], (), deque(), range(0), np.arange(0), torch.empty(0, 2)])
@pytest.mark.parametrize("padded", [False, True])
def test_nothing_is_divided_into_nothing(empty: Any, padded: bool) -> None:
    assert len(split(empty, 1, 2, padded=padded)) == 0


@pytest.mark.parametrize("text", ["a prompt", b"bytes"])
def test_a_text_is_one_input(text: Any) -> None:
    """As in Accelerate, all processes have it."""
    assert split(text, 1, 2, padded=True) is text


@pytest.mark.parametrize("inputs", [{1, 2, 3}, iter([1, 2]), 3], ids=["a set", "an iterator", "3"])
def test_what_has_no_order_or_length_is_refused(inputs: Any) -> None:
    with pytest.raises(TypeError, match=f"a length and an order, got {type(inputs).__name__}"):
        split(inputs, 0, 2, padded=False)
