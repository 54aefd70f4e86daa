"""fp8 in worlds of two processes, replicated and sharded, emulated on CPUs."""

import functools
from typing import Any

import pytest

from tests.distributed.float8 import PLUGINS
from tests.distributed.test_training import flat
from tests.distributed.world import told_by

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]
pytest.importorskip("torchao.float8", reason="torchao is not installed: no test of fp8")


@functools.cache
def found(library: str) -> list[dict[str, Any]]:
    """What each rank has found."""
    ranks: list[dict[str, Any]] = told_by("float8.py", library)
    return ranks


def test_replicas_train_as_with_accelerate() -> None:
    ours = [rank["replicated"] for rank in found("runtime")]
    assert ours == [rank["replicated"] for rank in found("accelerate")]


@pytest.mark.parametrize("case", PLUGINS)
def test_a_sharded_model_is_the_replicated_one(case: str) -> None:
    """Up to rounding: FSDP2 gathers weights and reduces gradients in bf16."""
    whole, sharded = (found("runtime")[0][name] for name in ("replicated", case))
    assert whole["layers"] == ["Linear", "Float8Linear", "Float8Linear", "Linear"]
    assert [name.removeprefix("FSDP") for name in sharded["layers"]] == whole["layers"]
    assert sharded["losses"] == pytest.approx(whole["losses"], rel=0.02)
    assert list(sharded["weights"]) == list(whole["weights"])
    for name, weight in whole["weights"].items():
        assert flat(sharded["weights"][name]) == pytest.approx(flat(weight), abs=0.01), name


@pytest.mark.parametrize("case", ["replicated", *PLUGINS])
def test_a_resumed_training_is_the_uninterrupted_one(case: str) -> None:
    for rank in found("runtime"):
        assert rank[f"{case}, resumed"] == rank[case]
