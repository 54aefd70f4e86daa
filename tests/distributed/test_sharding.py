"""Properties of sharded training, over real worlds, and the same as Accelerate's."""

import functools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.distributed.sharding_programs import CASES, WORLDS
from tests.distributed.world import SCRIPT, environment, forked

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # the first test runs everything
    pytest.mark.xdist_group("gloo"),
]

PROGRAM = Path(__file__).with_name("sharding_programs.py")
SECONDS = 1200  # for all worlds; a few minutes, if they have the machine for themselves
WAITED = "RuntimeError: rank 0 has failed, and this rank needs its result: "
AS_WHOLE = {  # a sharded training -> the unsharded one that it equals
    "blocks": "whole",
    "blocks, clipped": "whole, clipped",
    "blocks, accumulate 4 of 6": "whole, accumulate 4 of 6",
    "blocks, warm": "whole, warm",
    "by size": "whole",
    "one part": "whole",
    "kept": "whole",
    "from rank 0": "whole",
    "read by rank 0": "whole",
    "on the CPU": "whole",
    "compiled": "whole",
    "ignored": "ignored, whole",
    "hybrid": "whole, clipped",
    "hybrid, from rank 0": "whole, clipped",
    "copies": "whole",
}


def worlds_of(*cases: str) -> list[tuple[str, int]]:
    """Each case with each of its worlds."""
    return [(case, world) for case in cases for world in CASES[case][2]]


def found(case: str, world: int, library: str = "runtime") -> list[Any]:
    """What each rank has found."""
    results = everything()
    if isinstance(results, AssertionError):
        raise results
    return [rank[case] for rank in results[library, world]]


@functools.cache
def everything() -> dict[tuple[str, int], list[dict[str, Any]]] | AssertionError:
    """One run for all tests, also if it fails."""
    with tempfile.TemporaryDirectory() as name:
        env = environment(0, 1, 0) | SCRIPT
        (done,) = forked(([str(PROGRAM), name], env), seconds=SECONDS)
        if done.code:
            return AssertionError(f"exit code {done.code}\n{done.out[-2000:]}{done.err[-5000:]}")
        exported = {"exported": load_file(Path(name, "exported 2", "model.safetensors"))}
        return {
            (library, size): json.loads(Path(name, f"{library} {size}").read_text())
            for library, size in WORLDS
        } | {("exported", 0): [exported]}


def flat(nested: Any) -> list[float]:
    """All numbers of lists and dicts."""
    if isinstance(nested, dict):
        nested = [nested[name] for name in sorted(nested)]
    return [x for item in nested for x in flat(item)] if isinstance(nested, list) else [nested]


def near(expected: Any) -> Any:
    """Up to the order of float32 sums."""
    return pytest.approx(flat(expected), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("case", "world"), worlds_of(*AS_WHOLE))
def test_a_sharded_training_is_that_of_one_process_on_the_same_global_batches(
    case: str, world: int
) -> None:
    (alone,) = found(AS_WHOLE[case], 1)
    for rank in found(case, world):
        assert flat(rank["weights"]) == near(alone["weights"])
        assert rank["losses"] == near(alone["losses"])
        assert rank["norms"] == near(alone["norms"])


@pytest.mark.parametrize(("case", "world"), worlds_of("blocks", "hybrid"))
def test_each_rank_has_its_share_and_its_optimizers_state(case: str, world: int) -> None:
    """Rows are dealt as torch.chunk deals: the first ranks have all that does not divide."""
    ranks, shards = found(case, world), 2 if case == "hybrid" else world
    rows = {7: 3 * 7 * (7 + 1) + 7 * (6 + 1), 1: 1 * 7 + 1}  # rows -> numbers in all of that many
    most = sum(numbers / n * math.ceil(n / shards) for n, numbers in rows.items())
    assert max(rank["share"] for rank in ranks) == pytest.approx(most / sum(rows.values()))
    assert [rank["state"] for rank in ranks] == [rank["share"] for rank in ranks]
    assert sum(rank["share"] for rank in ranks) == pytest.approx(world / shards)


@pytest.mark.parametrize(
    ("case", "world", "kind"),
    [("blocks", 1, "NO"), ("blocks", 2, "FSDP"), ("whole", 2, "MULTI_CPU"), ("hybrid", 4, "FSDP")],
)
def test_a_world_says_what_it_is(case: str, world: int, kind: str) -> None:
    for rank in found(case, world):
        assert rank["kind"] == f"DistributedType.{kind}"
        assert rank["classes"]  # unwrapped, it is still of the script's class


@pytest.mark.parametrize("case", ["blocks", "blocks, clipped", "one part"])
def test_a_sharded_training_is_that_of_accelerate(case: str) -> None:
    for ours, theirs in zip(found(case, 2), found(case, 2, "accelerate"), strict=True):
        assert theirs["kind"] == ours["kind"]
        assert theirs["share"] == ours["share"]
        assert flat(ours["weights"]) == near(theirs["weights"])
        assert ours["losses"] == near(theirs["losses"])
        assert ours["norms"] == near(theirs["norms"])


def test_activations_that_are_computed_again_drop_the_same() -> None:
    """Accelerate 1.15 does not put the random state back for it."""
    for plain, again in zip(
        found("dropout", 2), found("dropout, activations again", 2), strict=True
    ):
        assert again == plain


@pytest.mark.parametrize("world", [2])
def test_an_optimizer_without_its_model_is_refused(world: int) -> None:
    for rank in found("refused", world):
        assert len(rank) == 2
        assert all("must be passed together to `Accelerator.prepare()`" in one for one in rank)


def test_what_rank_0_cannot_read_fails_on_all_ranks() -> None:
    first, second = found("damaged", 2)
    assert len(first) == len(second) == 3
    assert not any(one.startswith(("nothing", "RuntimeError: rank 0")) for one in first)
    assert second == [WAITED + one for one in first]


def test_an_optimizer_of_sharded_models_may_be_prepared_alone() -> None:
    (alone,) = found("afterwards", 1)
    for rank in found("afterwards", 2):
        assert flat(rank) == near(alone)


def test_gradients_stay_here_until_they_are_averaged() -> None:
    (alone,) = found("halves", 1)
    first, second = found("halves", 2)
    assert first["together"] == second["together"]
    assert all(first["alone"])  # the sharded parameters have none yet
    # Rank 1's inputs are twice rank 0's.
    assert first["together"] != alone["together"]


@pytest.mark.parametrize("case", ["odd", "odd, whole files"])
def test_what_is_shared_stays_so_and_what_is_not_used_has_no_state(case: str) -> None:
    (alone,) = found("odd", 1)
    for rank in found(case, 2):
        assert (rank["tied"], rank["states"]) == (alone["tied"], alone["states"]) == (True, 3)
        assert flat([rank["0"], rank["1"]]) == near([alone["0"], alone["1"]])


def test_lower_precision_is_for_computing() -> None:
    for rank in found("lower", 2):
        assert rank == ["torch.bfloat16", "torch.float32"]


def test_a_whole_model_is_exported() -> None:
    first, second = found("exported", 2)
    assert first["keys"] == list(first["weights"])
    assert second["keys"] == []
    file = everything()["exported", 0][0]["exported"]  # type: ignore[index]  # found() has asked
    assert {name: tensor.tolist() for name, tensor in file.items()} == first["weights"]


def test_accelerate_reads_what_is_written() -> None:
    assert found("merged", 2)[0] == found("merged", 2, "accelerate")[0]
    (written, *_), (read, *_) = found("save parts", 2), found("load parts", 2, "accelerate")
    assert read["2"]["before"] == written["before"]


@pytest.mark.parametrize(
    ("case", "world"),
    worlds_of("load parts", "load parts, whole", "load files", "load files, whole", "load whole"),
)
def test_a_training_goes_on_from_any_worlds_checkpoint(case: str, world: int) -> None:
    """Sharded or not before, sharded or not now; losses, and weights at the end."""
    (alone,) = found("whole, an epoch and two batches", 1)
    for rank in found(case, world):
        assert len(rank) >= 1
        for saved_by, went_on in rank.items():
            kind = case.split(",", maxsplit=1)[0].replace("load", "save")
            assert went_on["before"] == found(kind, int(saved_by))[0]["before"]  # bit by bit
            assert flat(went_on["weights"]) == near(alone["weights"])
            assert went_on["losses"] == near(alone["losses"][6:])


def test_a_checkpoint_is_of_two_processes_when_three_and_one_go_on() -> None:
    for world in (1, 3, 4):
        assert "2" in found("load parts", world)[0]
    assert found("load parts", 3)[0]["2"]["share"] < 1
