"""A dispatcher that splits batches divides lists of samples as it divides tensors."""

from itertools import chain
from typing import Any

import pytest
import torch

from runtime.data.dispatch.messages import by_samples

N = 5
NAMES = ["a", "b", "c", "d", "e"]


def batch(form: str, n: int = N) -> Any:
    x = torch.arange(n)
    forms: dict[str, Any] = {
        "names behind": {"x": x, "of": NAMES[:n]},
        "names first": {"of": NAMES[:n], "x": x},
        "names as a tuple": {"x": x, "of": tuple(NAMES[:n])},
        "nested": {"x": x, "more": [{"of": NAMES[:n]}]},
        "targets": {"of": [{"box": torch.zeros(i, 4), "id": i} for i in range(n)], "x": x},
        "tensors of any size": {"of": [torch.zeros(i, 4) for i in range(n)], "x": x},
    }
    return forms[form]


def of(part: Any) -> list[Any]:
    """What stands for the samples beside their numbers, as those numbers' own."""
    inner = part["of"] if "of" in part else part["more"][0]["of"]
    return [
        NAMES.index(one)
        if isinstance(one, str)
        else one["id"]
        if isinstance(one, dict)
        else len(one)
        for one in inner
    ]


FORMS = [
    "names behind",
    "names first",
    "names as a tuple",
    "nested",
    "targets",
    "tensors of any size",
]


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_each_rank_has_the_items_of_its_own_samples(form: str, is_last: bool) -> None:
    for world in (2, 3, 4, 7):
        whole = batch(form)
        step = by_samples([whole], world, lambda whole=whole: [whole], is_last=is_last)  # type: ignore[misc]  # bound here
        numbers = [part["x"].tolist() for part in step.parts]
        given = list(chain(*numbers))
        assert step.real == N
        assert given[:N] == list(range(N))
        assert [of(part) for part in step.parts] == numbers
        if is_last:
            assert len({len(own) for own in numbers}) == 1
        else:
            assert len(given) == N


def test_a_list_of_tensors_stays_the_batchs_structure() -> None:
    """Also if there are as many as samples."""
    pair = [torch.tensor([[1, 2], [3, 4]]), torch.tensor([5, 6])]
    step = by_samples([pair], 2, lambda: [pair], is_last=True)
    assert [[one.tolist() for one in part] for part in step.parts] == [
        [[[1, 2]], [5]],
        [[[3, 4]], [6]],
    ]


def test_a_batch_without_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match="Can only find the batch size of tensors but got"):
        by_samples([{"of": NAMES}], 2, list, is_last=True)
