import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import accelerate.utils
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, StateDictType

from runtime import Accelerator, FullyShardedDataParallelPlugin
from runtime.config.parsing import patch_environment
from runtime.state import AcceleratorState, GradientState

VERSION = {"FSDP_VERSION": "2"}
ENVIRONMENTS = {
    "nothing said": {},
    "gathered weights are kept": {"FSDP_RESHARD_AFTER_FORWARD": "false"},
    "weights wait on the CPU": {"FSDP_OFFLOAD_PARAMS": "true"},
    "whole files": {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"},
    "whole files, by number": {"FSDP_STATE_DICT_TYPE": "1"},
    "a file a rank": {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"},
    "parts by class": {
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block,Other",
    },
    "parts by class, which the model tells": {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"},
    "parts by size": {"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP", "FSDP_MIN_NUM_PARAMS": "2000"},
    "parts of any size": {"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"},
    "no parts": {"FSDP_AUTO_WRAP_POLICY": "NO_WRAP"},
    "some are left whole": {"FSDP_IGNORED_MODULES": "head.*"},
    "activations again": {
        "FSDP_ACTIVATION_CHECKPOINTING": "true",
        "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "yes",
    },
    "rank 0 reads": {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
    "words of FSDP1 that mean nothing": {
        "FSDP_USE_ORIG_PARAMS": "true",
        "FSDP_SYNC_MODULE_STATES": "true",
        "FSDP_FORWARD_PREFETCH": "true",
    },
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "bf16": {"mixed_precision_policy": "bf16"},
    "a dict of dtypes": {
        "mixed_precision_policy": dict.fromkeys(
            ("param_dtype", "reduce_dtype", "output_dtype"), torch.bfloat16
        )
    },
    "a policy": {"mixed_precision_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32)},
    "a word for resharding": {"reshard_after_forward": "false"},
    "a type of state": {"state_dict_type": "full_state_dict"},
    "a type of state of torch's": {"state_dict_type": StateDictType.SHARDED_STATE_DICT},
    "parts by class": {
        "auto_wrap_policy": "transformer_based_wrap",
        "transformer_cls_names_to_wrap": ["Block"],
    },
    "parts by size": {"auto_wrap_policy": "size_based_wrap", "min_num_params": 5},
}


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    with patch_environment(FSDP_CPU_RAM_EFFICIENT_LOADING="false", ACCELERATE_USE_FSDP="false"):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize("env", [pytest.param(env, id=name) for name, env in ENVIRONMENTS.items()])
def test_an_environment_gives_the_plugin_that_it_gives_accelerate(env: dict[str, str]) -> None:
    with patch_environment(**env, **VERSION):
        ours, theirs = vars(FullyShardedDataParallelPlugin()), vars(theirs_of())
    assert ours == theirs


def test_a_plugin_writes_no_variable_and_an_accelerator_those_that_transformers_reads() -> None:
    before = dict(os.environ)
    plugin = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=True)
    assert os.environ == before
    Accelerator(cpu=True, fsdp_plugin=plugin)
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "True"
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"


@pytest.mark.parametrize("said", [pytest.param(said, id=name) for name, said in ARGUMENTS.items()])
def test_arguments_give_the_plugin_that_they_give_accelerate(said: dict[str, Any]) -> None:
    ours = FullyShardedDataParallelPlugin(**said)
    assert vars(ours) == vars(theirs_of(fsdp_version=2, **said))


def theirs_of(**said: Any) -> Any:
    return accelerate.utils.FullyShardedDataParallelPlugin(**said)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no version of FSDP": ({"fsdp_version": 3}, "must be 2, got 3"),
    "a copy in each process": ({"sharding_strategy": "NO_SHARD"}, "without an fsdp_plugin"),
    "hybrid, by FSDP1's word": ({"sharding_strategy": "HYBRID_SHARD"}, "dp_replicate_size"),
    "no word for resharding": ({"reshard_after_forward": "maybe"}, "invalid truth value"),
    "no policy": ({"auto_wrap_policy": "all"}, "Invalid auto wrap policy"),
    "no precision": ({"mixed_precision_policy": "fp4"}, "Invalid mixed precision: fp4"),
    "a dict with a dtype missing": (
        {"mixed_precision_policy": {"param_dtype": torch.bfloat16}},
        "Invalid mixed precision policy",
    ),
    "FSDP1's states": ({"state_dict_type": "LOCAL_STATE_DICT"}, "does not support LOCAL"),
    "an offload of something else": ({"cpu_offload": "yes"}, "OffloadPolicy"),
    "an offload of nothing": (
        {"activation_checkpointing_offload": True},
        "requires `activation_checkpointing=True`",
    ),
}


@pytest.mark.parametrize(
    ("said", "sentence"), [pytest.param(*row, id=name) for name, row in REFUSED.items()]
)
def test_what_fsdp2_does_not_have_is_refused(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FullyShardedDataParallelPlugin(**said)


@pytest.mark.parametrize(
    ("said", "reshards"),
    [({}, True), ({"sharding_strategy": "FULL_SHARD"}, True), ({"sharding_strategy": 2}, False)],
)
def test_fsdp1_is_read_as_fsdp2_with_a_warning(said: dict[str, Any], reshards: bool) -> None:
    with pytest.warns(UserWarning, match="fsdp_version=1"):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=1, **said)
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, reshards)


def test_what_means_nothing_is_named() -> None:
    with pytest.warns(UserWarning, match=r"\['use_orig_params', 'sync_module_states'\]"):
        FullyShardedDataParallelPlugin(use_orig_params=True, sync_module_states=True)


class Model(nn.Sequential):
    """Says itself what its parts are."""

    _no_split_modules = ("Linear",)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        pytest.param({"auto_wrap_policy": "no_wrap"}, None, id="none"),
        pytest.param(
            {"auto_wrap_policy": "transformer_based_wrap"},
            {"transformer_layer_cls": {nn.Linear}},
            id="the model's own",
        ),
        pytest.param(
            {
                "auto_wrap_policy": "transformer_based_wrap",
                "transformer_cls_names_to_wrap": ["Tanh"],
            },
            {"transformer_layer_cls": {nn.Tanh}},
            id="the script's",
        ),
        pytest.param(
            {"auto_wrap_policy": "size_based_wrap", "min_num_params": 9},
            {"min_num_params": 9},
            id="by size",
        ),
        pytest.param({"auto_wrap_policy": "size_based_wrap"}, None, id="by no size"),
    ],
)
def test_a_policy_is_made_for_a_model(said: dict[str, Any], found: dict[str, Any] | None) -> None:
    plugin = FullyShardedDataParallelPlugin(**said)
    plugin.set_auto_wrap_policy(Model(nn.Linear(1, 1), nn.Tanh()))
    policy = plugin.auto_wrap_policy
    assert (policy.keywords if isinstance(policy, functools.partial) else policy) == found


def test_a_class_that_a_model_does_not_have_is_named() -> None:
    plugin = FullyShardedDataParallelPlugin(
        auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=["Block"]
    )
    with pytest.raises(ValueError, match="transformer layer class Block"):
        plugin.set_auto_wrap_policy(nn.Linear(1, 1))


def test_a_plugin_of_something_else_is_refused() -> None:
    sentence = (
        "FullyShardedDataParallelPlugin of accelerate.utils.dataclasses: import it from runtime"
    )
    with pytest.raises(TypeError, match=sentence):
        Accelerator(cpu=True, fsdp_plugin=theirs_of(fsdp_version=2))


def test_a_script_that_does_not_shard_does_not_wait_for_torchs_rooms() -> None:
    ask = "import sys, runtime.utils; from runtime import Accelerator; Accelerator(cpu=True)"
    check = f"{ask}; print([n for n in sys.modules if 'fsdp' in n or n == 'sympy'])"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.split() == ["[]"]
