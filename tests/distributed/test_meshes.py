"""Properties of trainings in worlds with tensor parallelism and hybrid sharding, over real worlds.

Losses, norms and weights equal those of one process on the same global batches up to the order of
float32 sums. A resumed training has the bits of the undisturbed one.
"""

from pathlib import Path

import pytest

from tests.distributed.by_layout import LAST, ONE, Found, flat, near
from tests.distributed.meshes import DIVIDED, LAYOUTS, MESHES, SAVED, TENSOR, WHOLE

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # the first test runs everything
    pytest.mark.xdist_group("gloo"),
]

found = Found(Path(__file__).with_name("meshes.py"))
LATER = {"dp 2 x tp 2", "replicas 2 x shards 2", WHOLE}  # of worlds after that of `tp 2`
LIKE_SAVED = ("saved", "whole files", "recomputed", "regions")  # trainings of the same numbers


@pytest.mark.parametrize(("case", "layout"), MESHES.of_several(*LIKE_SAVED, "accumulated", "warm"))
def test_a_training_is_that_of_one_process_on_the_same_global_batches(
    case: str, layout: str
) -> None:
    (alone,) = found("saved" if case in LIKE_SAVED else case, ONE)
    for rank in found(case, layout):
        for name in ("losses", "norms", "weights", "moments"):
            assert flat(rank[name]) == near(alone[name]), name


@pytest.mark.parametrize(("case", "layout"), MESHES.of_several("saved", "accumulated"))
def test_all_ranks_have_the_bits_of_one_model(case: str, layout: str) -> None:
    first, *others = found(case, layout)
    for rank in others:
        assert [rank["weights"], rank["norms"]] == [first["weights"], first["norms"]]


@pytest.mark.parametrize("layout", DIVIDED)
def test_each_rank_has_a_part(layout: str) -> None:
    """With tensor parallelism alone, what the plan does not name is whole."""
    size, sizes = LAYOUTS[layout]
    shares = [rank["share"] for rank in found("saved", layout)]
    replicas = sizes.get("dp_replicate_size", 1)
    least = 1 / (size // replicas)
    assert all(least * 0.95 <= share < 0.65 for share in shares)


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_resumed_training_has_the_bits_of_the_undisturbed_one(layout: str) -> None:
    """With dropout, and seeds that were others before the checkpoint was loaded."""
    for undisturbed, resumed in found("resumed", layout):
        assert resumed == undisturbed


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_loop_goes_on_with_the_bits_of_the_undisturbed_one(layout: str) -> None:
    for undisturbed, disturbed in found("looped", layout):
        assert (undisturbed["first"], disturbed["first"]) == (0, 8)
        for name in ("weights", "moments"):
            assert disturbed[name] == undisturbed[name]


@pytest.mark.parametrize(("case", "layout"), [*MESHES.of_several("loaded"), (LAST, ONE)])
def test_a_checkpoint_of_any_layout_is_loaded_by_another(case: str, layout: str) -> None:
    (alone,) = found("saved", ONE)
    for rank in found(case, layout):
        assert set(rank) == {ONE, "tp 2"} | (set() if layout == "tp 2" else LATER)
        for facts in rank.values():
            assert flat(facts["losses"]) == near(alone["losses"][SAVED:])
            assert flat(facts["weights"]) == near(alone["weights"])


@pytest.mark.parametrize(("case", "layout"), MESHES.of_several("saved", "whole files"))
def test_a_model_is_exported_whole(case: str, layout: str) -> None:
    for rank in found(case, layout):
        assert rank["exported"] == rank["weights"]


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_checkpoint_has_one_file_of_random_states_for_each_batch(layout: str) -> None:
    size, sizes = LAYOUTS[layout]
    files = found("saved", layout)[0]["files"]
    states = [name for name in files if name.startswith("random_states")]
    assert len(states) == size // sizes.get("tp_size", 1)


@pytest.mark.parametrize("kind", ["indices", "stream", "stream that each reads"])
@pytest.mark.parametrize("layout", [ONE, *DIVIDED])
def test_ranks_that_compute_together_read_the_same(layout: str, kind: str) -> None:
    """A stream is read by rank 0 for all, or by each rank."""
    size, sizes = LAYOUTS[layout]
    span = sizes.get("tp_size", 1)
    ranks = [rank[kind] for rank in found("dealt", layout)]
    for number, rank in enumerate(ranks):
        assert rank["own"] == ranks[number // span * span]["own"]
        for name in ("tensors", "objects"):
            assert [x for batch in rank[name] for x in batch] == list(range(11))
    steps = zip(*(rank["own"] for rank in ranks[::span]), strict=True)
    read = [x for step in steps for batch in step for x in batch]
    assert read[:11] == list(range(11))  # then copies, which fill the last step
    assert len({str(rank["own"]) for rank in ranks}) == size // span


@pytest.mark.parametrize("layout", DIVIDED)
def test_inputs_are_split_among_those_that_compute_apart(layout: str) -> None:
    size, sizes = LAYOUTS[layout]
    span = sizes.get("tp_size", 1)
    shares = [rank["share"] for rank in found("dealt", layout)]
    assert [x for share in shares[::span] for x in share] == list(range(6))
    assert all(share == shares[n // span * span] for n, share in enumerate(shares))
    assert size == len(shares)


@pytest.mark.parametrize("layout", TENSOR)
def test_ranks_that_compute_together_draw_the_same(layout: str) -> None:
    """Although the script seeds each rank with its own number; and begin with rank 0's weights."""
    ranks = found("agreed", layout)
    drawn = [rank["drawn"] for rank in ranks]
    assert drawn[0::2] == drawn[1::2]
    assert len({str(one) for one in drawn}) == len(ranks) // 2
    assert all(rank["weights"] == ranks[0]["weights"] for rank in ranks)


@pytest.mark.parametrize("layout", TENSOR)
def test_a_schedule_counts_batches_and_not_ranks(layout: str) -> None:
    for rank in found("agreed", layout):
        assert rank["rate"] == [1 / (1 + LAYOUTS[layout][0] // 2)]


@pytest.mark.parametrize("layout", TENSOR)
def test_a_rank_knows_its_place(layout: str) -> None:
    places = [rank["place"] for rank in found("agreed", layout)]
    assert places == [[0, n // 2, n % 2] for n in range(len(places))]


@pytest.mark.parametrize("layout", TENSOR)
def test_a_model_of_transformers_is_divided_by_its_own_plan(layout: str) -> None:
    (alone,) = found("llama", ONE)
    for number, rank in enumerate(found("llama", layout)):
        assert rank["found"] == near(alone["found"])
        assert rank["share"] < 1.03 / LAYOUTS[layout][0]
        assert rank["keys"] == (0 if number else alone["keys"])


@pytest.mark.parametrize("layout", TENSOR)
def test_lower_precision_computes_about_the_same(layout: str) -> None:
    (alone,) = found("bf16", ONE)
    first, *others = found("bf16", layout)
    assert first["losses"] == pytest.approx(alone["losses"], rel=0.1)
    assert first["losses"] != found("saved", layout)[0]["losses"]
    assert all(rank["weights"] == first["weights"] for rank in others)


def test_regions_are_compiled_in_a_model_that_is_sharded_and_recomputed() -> None:
    assert all(rank["graphs"] > 0 for rank in found("regions", "dp 2 x tp 2"))
    assert all(rank["graphs"] == 0 for rank in found("recomputed", "dp 2 x tp 2"))


@pytest.mark.parametrize("layout", TENSOR)
def test_a_model_that_the_script_has_divided_stays_so(layout: str) -> None:
    different = "weights differ between data-parallel ranks" if layout == "dp 2 x tp 2" else ""
    for same, first, other, _ in found("by the script", layout):
        assert same == "nothing"
        assert first == pytest.approx(found("by the script", "tp 2")[0][1])
        assert different in other
        assert (other == "nothing") == (different == "")


REFUSED = {
    "a model without a plan": "ValueError: tp_size=2 needs a plan for Net",
    "a plan for another model": "ValueError: the plan of tensor parallelism names 'block.up'",
    "a weight in two places": "ValueError: the plan of tensor parallelism divides 'up', whose",
    "a style that is not known": "NotImplementedError: the plan of tensor parallelism divides '0'",
    "parts of two sizes": "ValueError: dimension 0 of 0.weight, (3, 2), must be a multiple of",
    "averages of whole models": "ValueError: LocalSGD averages whole models",
    "batches of some ranks only": "UserWarning: Joining uneven inputs is only supported",
}


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=list(REFUSED))
def test_what_cannot_be_divided_is_refused(number: int) -> None:
    for rank in found("refused", "tp 2"):
        assert len(rank) == len(REFUSED)
        assert rank[number].startswith([*REFUSED.values()][number])


@pytest.mark.parametrize("layout", DIVIDED)
def test_all_ranks_begin_with_the_buffers_of_the_first(layout: str) -> None:
    """Also if their weights are equal; DistributedDataParallel sends both, too."""
    assert found("buffers", layout) == [[0.0, 0.0]] * LAYOUTS[layout][0]


@pytest.mark.parametrize("layout", TENSOR)
def test_a_weight_that_each_process_would_train_with_its_part_is_an_error(layout: str) -> None:
    for said in found("drifting", layout):
        assert said.startswith("ValueError: all processes that compute together must get the same")
        assert "gradient of scale, which the plan of tensor parallelism leaves whole" in said
