"""Properties of trainings whose processes share sequences, over real worlds.

Losses, norms and weights equal those of one process on the same global batches up to the order of
float32 sums. A resumed training has the bits of the undisturbed one.
"""

from pathlib import Path

import pytest

from tests.distributed.by_layout import LAST, ONE, Found, flat, near
from tests.distributed.sequences import DIVIDED, LAYOUTS, SAVED, SEQUENCES

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # the first test runs everything
    pytest.mark.xdist_group("gloo"),
]

found = Found(Path(__file__).with_name("sequences.py"))
LIKE_SAVED = ("saved", "recomputed")  # trainings of the same numbers


@pytest.mark.parametrize(
    ("case", "layout"), SEQUENCES.of_several(*LIKE_SAVED, "accumulated", "both ways", "few labels")
)
def test_a_training_is_that_of_one_process_on_the_same_global_batches(
    case: str, layout: str
) -> None:
    """Also what the model makes of whole sequences, outside of the context."""
    (alone,) = found("saved" if case in LIKE_SAVED else case, ONE)
    for rank in found(case, layout):
        for name in ("losses", "norms", "weights", "moments", "evaluated"):
            assert flat(rank[name]) == near(alone[name]), name


@pytest.mark.parametrize("layout", DIVIDED)
def test_all_ranks_have_the_bits_of_one_model(layout: str) -> None:
    first, *others = found("saved", layout)
    for rank in others:
        assert [rank["weights"], rank["norms"]] == [first["weights"], first["norms"]]


@pytest.mark.parametrize("layout", DIVIDED)
def test_processes_that_share_sequences_share_the_model(layout: str) -> None:
    size = LAYOUTS[layout][0]
    shares = [rank["share"] for rank in found("saved", layout)]
    assert sum(shares) == pytest.approx(1) or "tp_size" in LAYOUTS[layout][1]
    assert all(0.9 / size <= share < 0.75 for share in shares)


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_resumed_training_has_the_bits_of_the_undisturbed_one(layout: str) -> None:
    """With dropout, and seeds that were others before the checkpoint was loaded."""
    for undisturbed, resumed in found("resumed", layout):
        assert resumed == undisturbed


@pytest.mark.parametrize(("case", "layout"), [*SEQUENCES.of_several("loaded"), (LAST, ONE)])
def test_a_checkpoint_of_any_layout_is_loaded_by_another(case: str, layout: str) -> None:
    (alone,) = found("saved", ONE)
    for rank in found(case, layout):
        assert len(rank) == (2 if layout == "cp 2" else len(LAYOUTS))  # of the worlds before
        for facts in rank.values():
            assert flat(facts["losses"]) == near(alone["losses"][SAVED:])
            assert flat(facts["weights"]) == near(alone["weights"])


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_checkpoint_has_one_file_of_random_states_for_each_batch(layout: str) -> None:
    states = found("saved", layout)[0]["states"]
    assert len(states) == LAYOUTS[layout][1].get("dp_shard_size", 1)


@pytest.mark.parametrize("layout", DIVIDED)
def test_a_rank_knows_its_place(layout: str) -> None:
    sizes = [LAYOUTS[layout][1].get(f"{name}_size", 1) for name in ("dp_shard", "cp", "tp")]
    shards, parts, layers = (range(size) for size in sizes)
    places = [[shard, part, layer] for shard in shards for part in parts for layer in layers]
    assert [rank["rank"] for rank in found("saved", layout)] == places


@pytest.mark.parametrize(
    ("case", "layout"),
    SEQUENCES.of_several(
        "llama", "phi3", "llama, recomputed by a function", "llama, recomputed by hooks"
    ),
)
def test_a_model_of_transformers_trains_as_in_one_process(case: str, layout: str) -> None:
    """Also if its layers are recomputed in backward, in which torch turns modes off."""
    (alone,) = found(case.partition(",")[0], ONE)
    for rank in found(case, layout):
        assert flat(rank) == near(alone)


@pytest.mark.parametrize("layout", DIVIDED)
def test_metrics_count_each_part_once_and_each_sequence_once(layout: str) -> None:
    """Also in the last batch, which is filled up; tensor parallelism has copies of all."""
    parts = LAYOUTS[layout][1]["cp_size"]
    (alone,) = found("metrics", ONE)
    for rank in found("metrics", layout):
        assert rank["whole"] == alone["whole"]
        for name in ("within", "behind", "objects"):
            assert len(rank[name]) == parts * len(alone["whole"])
            assert sum(rank[name]) == sum(alone["whole"])


def test_lower_precision_computes_about_the_same() -> None:
    (alone,) = found("bf16", ONE)
    first, other = found("bf16", "cp 2")
    assert first["losses"] == pytest.approx(alone["losses"], rel=0.05)
    assert first["losses"] != found("saved", "cp 2")[0]["losses"]
    assert first["weights"] == other["weights"]


REFUSED = {
    "attention by hand": "RuntimeError: a model has computed on a part of the sequences, but",
    "a mask": "NotImplementedError: context parallelism has no attention with a mask",
    "torch's layer": "NotImplementedError: context parallelism does not support torch.nn.Multihead",
    "a length": "ValueError: the number of positions must be a multiple of 4 (twice cp_size), but",
    "lengths": "ValueError: all buffers must have the same number of positions, but got 16, 14",
    "gradients": "ValueError: buffers[0] requires a gradient",
    "no buffers": "ValueError: maybe_context_parallel() needs all tensors of the batch",
    "an input that is not divided": "ValueError: in maybe_context_parallel() this process has 8",
    "a compiled model": "NotImplementedError: context parallelism does not support torch.compile",
    "contexts in contexts": "RuntimeError: maybe_context_parallel() was entered twice",
    "backward behind the context": "RuntimeError: one of the variables needed for gradient",
    "no positions": "ValueError: in maybe_context_parallel() a model needs position_ids",
    "packed sequences": "ValueError: in maybe_context_parallel() position_ids must be those of",
    "labels that are not shifted": "ValueError: in maybe_context_parallel() a causal model needs",
    "labels of GPT-2": "ValueError: in maybe_context_parallel() a causal model needs shift_labels",
    "no position_ids": "ValueError: context parallelism does not support Bart",
    "a class of a sequence": "ValueError: context parallelism does not support LlamaForSequence",
    "a hole between pieces": "ValueError: in maybe_context_parallel() an attention_mask may only",
    "positions that begin at 2": "ValueError: context parallelism does not support Roberta",
    "a rotation by length": "ValueError: context parallelism does not support LlamaForCausalLM",
    "some logits": "ValueError: in maybe_context_parallel() a model cannot have logits_to_keep",
    "padding at the left": "ValueError: in maybe_context_parallel() an attention_mask may only",
    "a window": "ValueError: context parallelism supports full attention only, but Mistral",
    "eager attention": "ValueError: context parallelism needs attention by scaled_dot_product_",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_computed_in_parts_is_refused(name: str) -> None:
    for rank in found("refused", "cp 2"):
        assert set(rank) == set(REFUSED)
        assert rank[name].startswith(REFUSED[name])
