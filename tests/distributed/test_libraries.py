"""Libraries that import `accelerate` train by the alias as they do with Accelerate, bit by bit."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.world import environment, forked

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.xdist_group("gloo"),
]


@functools.cache
def found(library: str, size: int) -> Any:
    """What a world of the program has found; each world runs once."""
    return told("libraries.py", size, library)


def told(program: str, size: int, *more: str) -> Any:
    """What rank 0 of a world has written to a folder, which is the first argument of a program."""
    with tempfile.TemporaryDirectory() as folder:
        port, offline = free_port(), {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/cache"}
        argv = [str(Path(__file__).with_name(program)), folder, *more]
        ranks = forked(*((argv, environment(r, size, port) | offline) for r in range(size)))
        assert not any(done.code for done in ranks), [done.err[-3000:] for done in ranks]
        return json.loads(Path(folder, "found.json").read_text())


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("training", ["plain", "resumed"])
def test_the_trainer_of_transformers_trains_to_the_same_bits(training: str, size: int) -> None:
    ours, theirs = found("runtime", size), found("accelerate", size)
    assert (ours["home"], theirs["home"]) == ("runtime", "accelerate")
    assert ours[training] == theirs[training]
    evaluated = [one["eval_samples"] for one in ours[training]["logs"] if "eval_loss" in one]
    assert set(evaluated) == {13}


def test_a_resume_in_two_processes_ends_with_the_same_weights() -> None:
    whole, resumed = (found("runtime", 2)[training] for training in ("plain", "resumed"))
    assert whole["weights"] == resumed["weights"]


@pytest.mark.parametrize("script", ["sft", "dpo"])
def test_a_public_script_of_trl_trains_to_the_same_bits(script: str) -> None:
    assert found("runtime", 1)[script] == found("accelerate", 1)[script]


def test_the_trainer_shares_sequences_and_trains_as_one_process() -> None:
    """Torch itself cannot on CPUs. Its last batch of an evaluation is filled up."""
    alone, shared = (told("trainer.py", size) for size in (1, 2))
    assert {name: len(one) for name, one in alone.items()} == {
        "loss": 6,
        "grad_norm": 6,
        "eval_loss": 2,
    }
    for name, values in alone.items():
        assert shared[name] == pytest.approx(values, rel=1e-4), name
