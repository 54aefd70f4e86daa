"""Which gradients of weights that are whole on several processes are different."""

import pytest
import torch
from torch import nn

from runtime.parallel.tensor.gradients import Samples, _samples, first_difference

ALIKE: Samples = {"norm": [1.0, -2.0], "last": [0.5]}
CASES: dict[str, tuple[list[Samples], int, str | None]] = {
    "all alike": ([ALIKE] * 4, 2, None),
    "no process": ([], 2, None),
    "no weight": ([{}] * 2, 2, None),
    "one that differs": ([ALIKE, {**ALIKE, "last": [0.1]}], 2, "last"),
    "the sign": ([ALIKE, {**ALIKE, "norm": [1.0, 2.0]}], 2, "norm"),
    "the second group": ([ALIKE, ALIKE, ALIKE, {**ALIKE, "norm": [0.0, 0.0]}], 2, "norm"),
    "the third process of a group": ([ALIKE, ALIKE, {**ALIKE, "last": [9.0]}, ALIKE], 4, "last"),
    "groups may differ": ([ALIKE, ALIKE, {"norm": [7.0]}, {"norm": [7.0]}], 2, None),
    "rounding": ([ALIKE, {**ALIKE, "norm": [1.01, -2.01]}], 2, None),
    "a gradient of rounding errors": (
        [{**ALIKE, "bias": [1e-9]}, {**ALIKE, "bias": [-1e-9]}],
        2,
        None,
    ),
    "a small gradient beside no other": ([{"bias": [1e-9]}, {"bias": [-1e-9]}], 2, "bias"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_named(case: str) -> None:
    each, span, expected = CASES[case]
    assert first_difference(each, span) == expected


def test_elements_come_from_the_whole_gradient_and_those_that_are_not_finite_are_0() -> None:
    model = nn.Linear(1000, 1)
    model.weight.grad = torch.arange(1000.0)[None]
    model.weight.grad[0, 0] = torch.nan
    sample = dict(_samples(model))["weight"]
    assert len(sample) <= 64
    assert sample[0] == 0
    assert sample[-1] > 980


class Empty(nn.Module):
    """A shard without elements, as FSDP2 leaves to the last rank."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, 3))

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return self.weight * index


@pytest.mark.parametrize("model", [Empty(), nn.Embedding(3, 2, sparse=True)], ids=str)
def test_gradients_without_elements_to_compare_are_no_error(model: nn.Module) -> None:
    model(torch.tensor([1])).sum().backward()
    samples = dict(_samples(model))
    assert first_difference([samples, samples], 2) is None
