"""The names that libraries import from `accelerate` exist; what is left out raises when used.

Read from the wheels of transformers 5.24, trl 1.16, peft 0.21, diffusers 0.42,
sentence-transformers 6.2, setfit 1.2, lerobot 0.4 and axolotl 0.19.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.parallel.fsdp import words
from runtime.utils import constants

WANTED = {  # module below the package -> names
    "": (
        "Accelerator DistributedType FullyShardedDataParallelPlugin ParallelismConfig "
        "PartialState __version__ accelerator cpu_offload cpu_offload_with_hook data_loader "
        "dispatch_model infer_auto_device_map init_empty_weights skip_first_batches"
    ),
    "accelerator": "AcceleratorState ParallelismConfig",
    "big_modeling": "",
    "commands.config": "config_args default_config_file load_config_from_file",
    "commands.launch": "launch_command launch_command_parser",
    "hooks": (
        "AlignDevicesHook CpuOffload ModelHook add_hook_to_module remove_hook_from_module "
        "remove_hook_from_submodules"
    ),
    "logging": "get_logger",
    "parallelism_config": "ParallelismConfig",
    "state": "AcceleratorState PartialState",
    "utils": (
        "AORecipeKwargs CustomDtype DataLoaderConfiguration DeepSpeedPlugin "
        "DeepSpeedSchedulerWrapper DistributedDataParallelKwargs DistributedType DummyOptim "
        "DummyScheduler FullyShardedDataParallelPlugin GradientAccumulationPlugin "
        "ParallelismConfig SAFE_WEIGHTS_INDEX_NAME SAFE_WEIGHTS_NAME TorchDynamoPlugin "
        "broadcast_object_list compute_module_sizes extract_model_from_parallel "
        "find_executable_batch_size gather gather_object get_balanced_memory get_max_memory "
        "get_module_children_bottom_up infer_auto_device_map is_compiled_module "
        "is_fp8_available is_mlu_available is_npu_available is_peft_available is_peft_model "
        "is_torch_version is_wandb_available is_xpu_available load_fsdp_model "
        "load_fsdp_optimizer load_offloaded_weights named_module_tensors offload_state_dict "
        "offload_weight reduce release_memory save_fsdp_model save_fsdp_optimizer "
        "save_offload_index send_to_device set_module_tensor_to_device set_seed tqdm"
    ),
    "utils.ao": "filter_linear_layers find_first_last_linear_layers",
    "utils.constants": "FSDP_AUTO_WRAP_POLICY FSDP_SHARDING_STRATEGY",
    "utils.dataclasses": "get_module_class_from_name",
    "utils.deepspeed": "HfDeepSpeedConfig",
    "utils.environment": "check_cuda_p2p_ib_support",
    "utils.fsdp_utils": "fsdp2_prepare_auto_wrap_policy get_parameters_from_modules",
    "utils.imports": "is_bf16_available is_fp8_available is_xpu_available",
    "utils.memory": "clear_device_cache release_memory should_reduce_batch_size",
    "utils.modeling": (
        "clean_device_map convert_file_size_to_int get_max_layer_size get_non_persistent_buffers"
    ),
    "utils.versions": "is_torch_version",
}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(f"runtime.{module}".rstrip("."), name, id=f"accelerate.{module}:{name}")
        for module, names in WANTED.items()
        for name in names.split() or ["__name__"]
    ],
)
def test_the_names_that_libraries_import_exist(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


class Attention(nn.Module):
    """A part of `Model`, whose mask is not in the state dict."""

    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(16, 32)
        self.register_buffer("mask", torch.ones(3, dtype=torch.int64), persistent=False)


class Model(nn.Module):
    """A model with nested modules, buffers of two kinds, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(32, 5).requires_grad_(False)


OURS, THEIRS = (importlib.import_module(f"{name}.utils") for name in ("runtime", "accelerate"))
HELPERS = {  # what a helper returns for a model, in both libraries
    "is_peft_model": lambda utils, model: bool(utils.is_peft_model(model)),
    "tensors of a module": lambda utils, model: [
        name for name, _ in utils.named_module_tensors(model.norm)
    ],
    "tensors without buffers": lambda utils, model: [
        name for name, _ in utils.named_module_tensors(model, include_buffers=False, recurse=True)
    ],
    "tensors that are saved": lambda utils, model: [
        name for name, _ in utils.named_module_tensors(model.attention, remove_non_persistent=True)
    ],
    "buffers that are not saved": lambda utils, model: utils.modeling.get_non_persistent_buffers(
        model, recurse=True
    ),
    "their names in the model": lambda utils, model: utils.modeling.get_non_persistent_buffers(
        model, recurse=True, fqns=True
    ),
    "sizes": lambda utils, model: dict(utils.compute_module_sizes(model)),
    "sizes in another dtype": lambda utils, model: dict(
        utils.compute_module_sizes(
            model, dtype="float16", special_dtypes={"head.weight": torch.float64}
        )
    ),
    "sizes of buffers": lambda utils, model: dict(
        utils.compute_module_sizes(model, buffers_only=True)
    ),
    "modules from the bottom up": lambda utils, model: [
        (name, type(one).__name__)
        for name, one in utils.get_module_children_bottom_up(model, return_fqns=True)
    ],
    "a class by its name": lambda utils, model: [
        utils.dataclasses.get_module_class_from_name(model, name) for name in ("Linear", "Conv2d")
    ],
    "first and last linear layer": lambda utils, model: (
        utils.ao.find_first_last_linear_layers(model),
        utils.ao.find_first_last_linear_layers(model.norm),
    ),
    "layers for fp8": lambda utils, model: [
        utils.ao.filter_linear_layers(one, name, ["norm"]) for name, one in model.named_modules()
    ],
    "parameters of modules": lambda utils, model: [
        len(utils.fsdp_utils.get_parameters_from_modules(modules, model, "cpu"))
        for modules in (None, r".*\.query", [model.norm, model.head], "query")
    ],
    "GPUs that copy to each other": lambda utils, _: utils.environment.check_cuda_p2p_ib_support(),
    "policies of sharding": lambda utils, _: (
        utils.constants.FSDP_AUTO_WRAP_POLICY,
        utils.constants.FSDP_SHARDING_STRATEGY,
    ),
    "other dtypes": lambda utils, _: [(one.name, one.value) for one in utils.CustomDtype],
}


@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
def test_a_helper_returns_what_accelerates_does(helper: Callable[[Any, nn.Module], Any]) -> None:
    for utils in (OURS, THEIRS):
        for part in ("ao", "constants", "dataclasses", "environment", "fsdp_utils", "modeling"):
            importlib.import_module(f"{utils.__name__}.{part}")
    assert helper(OURS, Model()) == helper(THEIRS, Model())
    assert helper(OURS, Model()) is not None


def test_a_model_of_peft_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a package with the class that peft has; peft itself is not installed here."""
    (tmp_path / "peft.py").write_text("import torch\nclass PeftModel(torch.nn.Module): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module("peft").PeftModel()
    try:
        assert OURS.is_peft_model(model)
        assert not OURS.is_peft_model(Model())
    finally:
        del sys.modules["peft"]


def test_the_names_of_settings_of_sharding_are_those_that_have_a_meaning() -> None:
    assert list(words._STRATEGIES) == constants.FSDP_SHARDING_STRATEGY
    assert list(words._POLICIES) == constants.FSDP_AUTO_WRAP_POLICY


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        pytest.param(
            {
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "transformer_cls_names_to_wrap": ["Attention"],
            },
            ["attention"],
            id="by class",
        ),
        pytest.param(
            {"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 300},
            ["", "attention", "attention.query"],
            id="by size",
        ),
        pytest.param({"auto_wrap_policy": "NO_WRAP"}, None, id="none"),
    ],
)
def test_the_modules_that_a_policy_selects(policy: dict[str, Any], names: Any) -> None:
    for library in (OURS, THEIRS):
        plugin = library.FullyShardedDataParallelPlugin(fsdp_version=2, **policy)
        prepare = importlib.import_module(f"{library.__name__}.fsdp_utils")
        selects = prepare.fsdp2_prepare_auto_wrap_policy(plugin, Model())
        found = selects and [name for name, one in Model().named_modules() if selects(one)]
        assert found == names


@pytest.mark.parametrize("name", ["head.weight", "attention.mask", "norm.running_mean"])
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_a_tensor_of_a_module_is_replaced_as_by_accelerate(name: str, dtype: Any) -> None:
    found = []
    for utils in (OURS, THEIRS):
        model = Model().to("meta")
        value = torch.full(model.get_buffer(name).shape if "h" not in name else (5, 32), 3)
        value = value if name == "attention.mask" else value.float()
        utils.set_module_tensor_to_device(model, name, "cpu", value=value, dtype=dtype)
        owner, _, own = name.rpartition(".")
        made = getattr(model.get_submodule(owner), own)
        found.append((type(made), made.dtype, made.device, made.tolist(), made.requires_grad))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        pytest.param(
            {"tensor_name": "head.xyzzy"}, ValueError, "Linear does not have", id="no such tensor"
        ),
        pytest.param({}, ValueError, "is on the meta device: pass a `value`", id="no value"),
        pytest.param(
            {"value": torch.ones(2)},
            ValueError,
            r"must have the shape \(5, 32\), got \(2,\)",
            id="another shape",
        ),
        pytest.param(
            {"value": torch.ones(5, 32), "dtype": "floa"},
            ValueError,
            "such as 'bfloat16', got 'floa'",
            id="no dtype",
        ),
        pytest.param(
            {"tied_params_map": {}}, NotImplementedError, "use accelerate itself", id="dispatched"
        ),
    ],
)
def test_a_tensor_that_cannot_be_replaced(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        OURS.set_module_tensor_to_device(
            **{"module": Model().to("meta"), "tensor_name": "head.weight", "device": "cpu"}
            | options
        )


def test_a_tensor_is_moved_with_its_value() -> None:
    model = Model()
    before = model.head.weight.tolist()
    OURS.set_module_tensor_to_device(model, "head.weight", "cpu")
    assert model.head.weight.tolist() == before
    OURS.set_module_tensor_to_device(model, "head.weight", "meta")
    assert model.head.weight.is_meta
    assert not model.head.weight.requires_grad
