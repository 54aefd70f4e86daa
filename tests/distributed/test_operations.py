"""What is right of operations and of accumulation beyond what `test_training` compares."""

from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.distributed.windows import points
from tests.distributed.world import results

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.timeout(900),  # the first test of a world runs all cases, at worst several times
    pytest.mark.xdist_group("gloo"),
]


def found(case: str, world: int, library: str = "runtime") -> list[Any]:
    return [rank[case] for rank in results(library, world)]


@pytest.mark.parametrize("world", [2, 3])
def test_padding_keeps_a_dtype(world: int) -> None:
    ranks = found("operations: pad what is true or false", world)
    assert [rank[:2] for rank in ranks] == [["torch.bool", [world]]] * world
    theirs = found("operations: pad what is true or false", 2, "accelerate")
    assert [rank[0] for rank in theirs] == ["torch.int64", "torch.bool"]


@pytest.mark.parametrize("world", [2, 3])
def test_a_rank_that_was_seeded_otherwise_is_named_once(world: int) -> None:
    """Afterwards it is in step; that torch's own generator is, is said once on each machine."""
    said, *others = found("operations: ranks seeded otherwise", world)
    differ = [one for one in said if "was not in the state" in one]
    assert [one.split(" was ")[0] for one in differ] == [
        f"the random generator `{kind}` of rank 1" for kind in ("generator", "torch")
    ]
    alike = [sum("are the same on all of them" in one for one in rank) for rank in (said, *others)]
    assert alike == [1, 0, 1][:world]  # machines of two
    assert not any("was not in the state" in one for rank in others for one in rank)


def reference(world: int, *, n: int, accumulate: int, clip: float | None = None) -> list[float]:
    """The same training in one process: each window's gradient is the mean of the ranks' means."""
    torch.manual_seed(11)
    models = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
    parameters = list(models.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    batches = list(DataLoader(points(n), batch_size=2))
    ranks = [batches[rank::world] for rank in range(world)]
    for _ in range(2):
        for start in range(0, len(ranks[0]), accumulate):
            optimizer.zero_grad()
            for rank in ranks:
                window = rank[start : start + accumulate]
                for x, y in window:
                    loss = nn.functional.mse_loss(models(x), y)
                    (loss / len(window) / world).backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
    return [x for p in parameters for x in p.flatten().tolist()]


CUT: dict[str, dict[str, Any]] = {
    "windows: cut short": {"n": 24},
    "windows: cut short, of a stream": {"n": 24},
    "windows: cut short, reduced each batch": {"n": 24},
    "windows: cut short, clipped": {"n": 24, "clip": 0.5},
    "windows: ranks with other numbers of batches": {"n": 22},
}


@pytest.mark.parametrize("case", CUT)
def test_a_window_that_is_cut_short_counts_its_own_batches(case: str) -> None:
    """On each rank: 4 of 6, or of 5, batches and then the rest."""
    for rank in found(case, 2):
        weights = list(chain.from_iterable(map(flat, rank["weights"])))
        assert weights == pytest.approx(reference(2, accumulate=4, **CUT[case]), abs=1e-5)


@pytest.mark.parametrize("case", CUT)
def test_all_ranks_have_the_same_weights(case: str) -> None:
    first, *others = found(case, 2)
    assert all(rank["weights"] == first["weights"] for rank in others)


def flat(nested: Any) -> list[float]:
    return [x for item in nested for x in flat(item)] if isinstance(nested, list) else [nested]
