"""What ranks draw from that a checkpoint of a smaller world knows nothing of."""

import random
import warnings
from pathlib import Path

import pytest
import torch

from runtime.checkpoint.filenames import RNG_STATE_NAME
from runtime.checkpoint.formats import save
from runtime.checkpoint.random_states import load_random_states
from runtime.data.random_states import device_states, kept_random_states, random_states


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two processes' states."""
    for rank in range(2):
        save(random_states(step=rank), tmp_path / f"{RNG_STATE_NAME}_{rank}.pkl")
    return tmp_path


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        pytest.param(1, 0, id="a rank that has saved its own says nothing"),
        pytest.param(2, 1, id="the first that is new speaks for all"),
        pytest.param(3, 0, id="those above are silent"),
    ],
)
def test_that_fewer_have_saved_is_said_once(saved: Path, rank: int, said: int) -> None:
    with warnings.catch_warnings(record=True) as given, kept_random_states():
        warnings.simplefilter("always")
        load_random_states(saved, rank)
    assert [f"rank {rank} and higher ranks" in str(one.message) for one in given] == [True] * said


def test_each_new_rank_draws_numbers_of_its_own(saved: Path) -> None:
    drawn = set()
    with kept_random_states(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rank in (2, 3, 2):
            assert load_random_states(saved, rank) == {"step": 0}
            drawn.add((random.random(), torch.rand(1).item()))  # no secret
    assert len(drawn) == 2


class Devices:
    """Two devices of a kind, as `torch.cuda` has them; this process computes on the second one."""

    states = (torch.tensor([1]), torch.tensor([2]))

    def device_count(self) -> int:
        return len(self.states)

    def get_rng_state(self) -> torch.Tensor:
        return self.states[1]

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return list(self.states)


@pytest.mark.parametrize(("is_shared", "states"), [(False, [1, 2]), (True, [2, 2])])
def test_who_computes_on_another_device_gets_the_state_of_this_one(
    is_shared: bool, states: list[int]
) -> None:
    """Where processes share their batches; otherwise each gets back what it had."""
    assert [int(one) for one in device_states(Devices(), is_shared=is_shared)] == states
