"""Errors name what can be chosen here, and the variable that has a wrong value."""

import dataclasses
import inspect
import logging
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Accelerator
from runtime.config.parsing import get_int_from_env, patch_environment
from runtime.config.settings import (
    LayoutSettings,
    Settings,
    ShardingSettings,
    Variables,
    env_name,
)
from runtime.launchers import PrepareForLaunch
from runtime.logging import get_logger
from runtime.parallel.compile import TorchDynamoPlugin
from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin
from runtime.parallel.handlers import TorchContextParallelConfig
from runtime.parallelism_config import ParallelismConfig
from runtime.trackers.mlflow import MLflowTracker

FSDP = FullyShardedDataParallelPlugin
SETTINGS = dataclasses.fields(Settings)
_FLAGS = (
    *("OFFLOAD_PARAMS", "ACTIVATION_CHECKPOINTING", "ACTIVATION_CHECKPOINTING_OFFLOAD"),
    "CPU_RAM_EFFICIENT_LOADING",
)
_SIZES = ("DP_REPLICATE", "DP_SHARD", "CP", "SP", "TP")


def _is_bool(field: Any) -> bool:
    return bool(field.type == bool | None)


def blocks() -> Any:
    """The policy that the environment asks for, of a model."""
    return FSDP(auto_wrap_policy="TRANSFORMER_BASED_WRAP").policy_of(nn.Linear(1, 1))


def of_two() -> Any:
    """The first process of two; an error comes before it waits for the other."""
    world = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with patch_environment(**world):
        Accelerator(cpu=True)


def counted() -> Any:
    get_int_from_env(["SOME_NUMBER"], 1)


def launched() -> Any:
    PrepareForLaunch(print)(0)


BOOLEAN, NUMBER = "true or false", "must be a whole number"
SIZED = partial(FSDP, auto_wrap_policy="SIZE_BASED_WRAP")
INDUCTOR = partial(TorchDynamoPlugin, backend="inductor")
WRONG: list[tuple[Any, str, str, str]] = [  # what reads it, variable, value, what is allowed
    *((FSDP, f"FSDP_{name}", "maybe", BOOLEAN) for name in _FLAGS),
    (FSDP, "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", "true", "activation_checkpointing=True"),
    (FSDP, "FSDP_VERSION", "two", NUMBER),
    (FSDP, "FSDP_VERSION", "3", "must be 2"),
    (FSDP, "FSDP_RESHARD_AFTER_FORWARD", "maybe", "FULL_SHARD, SHARD_GRAD_OP"),
    (FSDP, "FSDP_SHARDING_STRATEGY", "NO_SHARD", "without an fsdp_plugin"),
    (FSDP, "FSDP_AUTO_WRAP_POLICY", "SOME", "TRANSFORMER_BASED_WRAP"),
    (FSDP, "FSDP_STATE_DICT_TYPE", "NONE_SUCH", "SHARDED_STATE_DICT"),
    (FSDP, "FSDP_IGNORED_MODULES", "head.(", "a regular expression"),
    (SIZED, "FSDP_MIN_NUM_PARAMS", "many", NUMBER),
    (SIZED, "FSDP_MIN_NUM_PARAMS", "-1", "at least 0"),
    (blocks, "FSDP_TRANSFORMER_CLS_TO_WRAP", "Linear, Blok", "Its classes are Linear"),
    *((ParallelismConfig, f"PARALLELISM_CONFIG_{name}_SIZE", "0", "at least 1") for name in _SIZES),
    (ParallelismConfig, "PARALLELISM_CONFIG_DP_SHARD_SIZE", "many", NUMBER),
    (ParallelismConfig, "PARALLELISM_CONFIG_SP_SIZE", "2", "must be 1"),
    (ParallelismConfig, "PARALLELISM_CONFIG_CP_BACKEND", "other", "must be one of"),
    (TorchContextParallelConfig, "PARALLELISM_CONFIG_CP_COMM_STRATEGY", "other", "allgather"),
    (TorchDynamoPlugin, "ACCELERATE_DYNAMO_BACKEND", "NONE_SUCH", "INDUCTOR"),
    (INDUCTOR, "ACCELERATE_DYNAMO_MODE", "none-such", "max-autotune"),
    (Accelerator, "ACCELERATE_MIXED_PRECISION", "bfloat16", "'bf16'"),
    (partial(Accelerator, cpu=True), "ACCELERATE_MIXED_PRECISION", "fp8", "use bf16"),
    (Accelerator, "ACCELERATE_FP8_BACKEND", "TE", "must be AO"),
    (partial(Accelerator, cpu=True), "ACCELERATE_MIXED_PRECISION", "fp16", "use bf16"),
    (Accelerator, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "0", "at least 1"),
    (Accelerator, "ACCELERATE_COLLECTIVE_TIMEOUT", "0", "at least 1"),
    (Accelerator, "ACCELERATE_RNG_TYPES", "torch,numpy", "torch, cuda"),
    (Accelerator, "ACCELERATE_SEED", "-1", "at least 0"),
    (Accelerator, "ACCELERATE_SEED", "one", NUMBER),
    (Accelerator, "ACCELERATE_TORCH_DEVICE", "none-such", "finds here, such as"),
    (Accelerator, "ACCELERATE_TORCH_DEVICE", "cuda:97", "torch finds here"),
    (of_two, "ACCELERATE_DISTRIBUTED_BACKEND", "none-such", "gloo"),
    (of_two, "ACCELERATE_DISTRIBUTED_BACKEND", "cpu:none-such", "gloo"),
    (partial(get_logger, "some"), "ACCELERATE_LOG_LEVEL", "loud", "INFO"),
    (counted, "SOME_NUMBER", "many", NUMBER),
    (launched, "NODE_RANK", "first", NUMBER),
    (MLflowTracker, "MLFLOW_NESTED_RUN", "maybe", BOOLEAN),
    (MLflowTracker, "MLFLOW_TAGS", "team=a", "a JSON object"),
    *((Accelerator, env_name(one.name), "maybe", BOOLEAN) for one in SETTINGS if _is_bool(one)),
]


@pytest.mark.parametrize(
    ("made", "variable", "value", "allowed"),
    [pytest.param(*row, id=f"{row[1]}={row[2]}") for row in WRONG],
)
def test_a_wrong_value_names_its_variable_and_what_is_allowed(
    made: Any, variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises((ValueError, NotImplementedError)) as error:
        made()
    for words in (variable, repr(value), allowed):
        assert words in str(error.value)


FREE = {"PARALLELISM_CONFIG_CP_BACKEND", "PARALLELISM_CONFIG_SP_BACKEND"}  # any text will do


@pytest.mark.parametrize("kind", [Settings, ShardingSettings, LayoutSettings])
def test_each_setting_of_the_environment_is_in_that_table(kind: type[Variables]) -> None:
    variables = {kind.variable(one.name) for one in dataclasses.fields(kind)}
    assert variables - FREE <= {variable for _, variable, *_ in WRONG}


@pytest.mark.parametrize("kind", [Settings, ShardingSettings, LayoutSettings])
def test_an_empty_variable_is_as_none(kind: type[Variables]) -> None:
    variables = [kind.variable(one.name) for one in dataclasses.fields(kind)]
    assert kind.from_env(dict.fromkeys(variables, "")) == kind()


def test_only_what_can_be_had_is_offered() -> None:
    with pytest.raises(ValueError, match="between 'no', 'bf16', 'fp16', 'fp8'\\."):
        Accelerator(cpu=True, mixed_precision="bfloat16")
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
