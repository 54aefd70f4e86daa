"""Errors name what can be chosen here, and the variable that has a wrong value."""

import inspect
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Accelerator
from runtime.compilation import TorchDynamoPlugin
from runtime.fsdp_plugin import FullyShardedDataParallelPlugin
from runtime.logging import get_logger
from runtime.parallelism_config import ParallelismConfig
from runtime.state import AcceleratorState, GradientState

FSDP = FullyShardedDataParallelPlugin


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize(
    ("made", "variable", "value"),
    [
        (FSDP, "FSDP_OFFLOAD_PARAMS", "maybe"),
        (FSDP, "FSDP_ACTIVATION_CHECKPOINTING", "maybe"),
        (FSDP, "FSDP_VERSION", "two"),
        (FSDP, "FSDP_RESHARD_AFTER_FORWARD", "maybe"),
        (FSDP, "FSDP_SHARDING_STRATEGY", "NO_SHARD"),
        (FSDP, "FSDP_AUTO_WRAP_POLICY", "SOME"),
        (FSDP, "FSDP_STATE_DICT_TYPE", "NONE_SUCH"),
        (ParallelismConfig, "PARALLELISM_CONFIG_DP_SHARD_SIZE", "0"),
        (ParallelismConfig, "PARALLELISM_CONFIG_DP_SHARD_SIZE", "many"),
        (TorchDynamoPlugin, "ACCELERATE_DYNAMO_BACKEND", "NONE_SUCH"),
        (Accelerator, "ACCELERATE_MIXED_PRECISION", "bfloat16"),
        (Accelerator, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "0"),
        (Accelerator, "ACCELERATE_SPLIT_BATCHES", "maybe"),
    ],
)
def test_a_wrong_value_names_its_variable(
    made: Any, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        made()


def test_only_what_can_be_had_is_offered() -> None:
    with pytest.raises(ValueError, match="between 'no', 'bf16', 'fp16'") as error:
        Accelerator(cpu=True, mixed_precision="bfloat16")
    assert "fp8" not in str(error.value)
    with pytest.raises(ValueError, match="'tensorboard', 'wandb', 'mlflow', 'all'"):
        Accelerator(cpu=True, log_with="sheets")


def test_arguments_that_cannot_be_hashed_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Accelerator(cpu=True)
    log = get_logger("unhashable")
    with caplog.at_level(logging.WARNING):
        for values in ([1, 2], [1, 2], [3]):
            log.warning_once("values %s", values, extra={"id": 1})
    assert [one.getMessage() for one in caplog.records] == [
        "[RANK 0] values [1, 2]",
        "[RANK 0] values [3]",
    ]


class Model(nn.Module):
    """A model whose forward has a signature that transformers' Trainer reads."""

    def forward(self, x: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return x if labels is None else labels


def test_a_prepared_model_keeps_the_signature_of_its_forward() -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    model: Any = accelerator.prepare(Model())
    assert list(inspect.signature(model.forward).parameters) == ["x", "labels"]
    patched: Any = Model()
    patched.forward = lambda x, mask=None: x if mask is None else mask
    model = accelerator.prepare(patched)
    assert list(inspect.signature(model.forward).parameters) == ["x", "mask"]
    assert model(torch.ones(1)).item() == 1.0
