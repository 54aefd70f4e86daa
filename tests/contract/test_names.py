"""A script for Accelerate 1.15 finds every name, argument and attribute that is not left out."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import runtime.utils
from runtime import Accelerator
from runtime.config import left_out
from tests.states import fresh

MODULES = (
    *("accelerator", "checkpointing", "data_loader", "launchers", "local_sgd", "logging"),
    *("optimizer", "scheduler", "state", "tracking"),
    *("utils.dataclasses", "utils.environment", "utils.memory", "utils.operations"),
    *("utils.other", "utils.random", "utils.versions", "utils.tqdm"),
)
ENGINES = "engines and devices that are left out"
PLACING = "models that one device cannot hold"
LAUNCHER = "a part of the launcher, which is written anew"
INNER = "not documented, and nobody's to import"
NOT_HERE = {  # public names that runtime does not have, and why
    **dict.fromkeys(
        (
            *("deepspeed_required", "torchao_required", "compile_regions_deepspeed"),
            *("convert_model", "convert_model_to_fp8_ao", "apply_fp8_autowrap"),
            *("contextual_fp8_autocast", "filter_first_and_last_linear_layers"),
            *("has_4bit_bnb_layers", "has_ao_layers", "has_transformer_engine_layers"),
            *("install_xla", "add_model_config_to_megatron_parser", "GatheredParameters"),
            *("SageMakerDistributedType", "ComputeEnvironment"),
            *("parse_bert_config", "parse_gpt2_config", "parse_t5_config", "parse_llama_config"),
            *("parse_glm4_moe_config", "lomo_backward"),
            *("get_deepspeed_plugin", "select_deepspeed_plugin", "deepspeed_ulysses_dl_adapter"),
        ),
        ENGINES,
    ),
    **dict.fromkeys(
        (
            *("calculate_maximum_sizes", "check_device_map", "check_tied_parameters_in_config"),
            "check_tied_parameters_on_same_device",
        ),
        PLACING,
    ),
    **dict.fromkeys(
        (
            *(
                "prepare_deepspeed_cmd_env",
                "prepare_multi_gpu_env",
                "prepare_sagemager_args_inputs",
            ),
            *("prepare_simple_launcher_cmd_env", "prepare_tpu", "write_basic_config"),
            *("TORCH_LAUNCH_PARAMS", "test_launch"),
        ),
        LAUNCHER,
    ),
    **dict.fromkeys(
        (
            *("has_compiled_regions", "has_repeated_blocks"),
            *("is_repeated_blocks", "get_mixed_precision_context_manager", "get_grad_scaler"),
            *("get_gpu_info", "get_driver_version"),
            *("get_current_device_type", "get_cpu_distributed_information", "CPUInformation"),
            *("override_numa_affinity", "set_numa_affinity", "TORCH_DISTRIBUTED_OPERATION_TYPES"),
            *("MITA_PROFILING_AVAILABLE_PYTORCH_VERSION", "move_to_device"),
            *("XPU_PROFILING_AVAILABLE_PYTORCH_VERSION", "patch_optimizer_step", "do_nothing"),
            *("ThreadLocalSharedDict", "EnumWithContains", "ConvertOutputsToFp32"),
            *("fsdp2_apply_ac", "fsdp2_canonicalize_names", "fsdp2_load_full_state_dict"),
            *("fsdp2_prepare_model", "fsdp2_switch_optimizer_parameters", "ensure_weights_retied"),
            *("get_fsdp2_grad_scaler", "compile_regions_fsdp2", "model_has_dtensor"),
            *("disable_fsdp_ram_efficient_loading", "enable_fsdp_ram_efficient_loading"),
            *("adjust_state_dict_for_prefetch", "get_model_tp_size", "print_lr"),
            *("gather_tensor_shape", "is_torch_xpu_tensor"),
        ),
        INNER,
    ),
}


def public(module: Any) -> Iterator[tuple[str, Any]]:
    """Names that a module has, other than modules and what it has imported from elsewhere."""
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None)
        if not name.startswith("_") and home == module.__name__:
            yield name, value


def pairs() -> Iterator[Any]:
    """Accelerate's classes and functions, and what stands for each here."""
    for name in MODULES:
        theirs = importlib.import_module(f"accelerate.{name}")
        ours = importlib.import_module(f"runtime.{name}")
        for label, value in public(theirs):
            if label not in NOT_HERE and label not in left_out.NAMES:
                yield pytest.param(value, getattr(ours, label, None), id=f"{name}.{label}")


def test_the_package_has_every_name() -> None:
    theirs = importlib.import_module("accelerate")
    names = {name for name, value in vars(theirs).items() if callable(value)}
    assert {name for name in names if not hasattr(importlib.import_module("runtime"), name)} == {
        "is_rich_available"
    }


def test_its_modules_are_there_when_it_is_imported() -> None:
    """In an interpreter of its own: here everything is imported already."""
    names = [name for name in MODULES if "." not in name and name != "local_sgd"]
    asked = ", ".join(f"library.{name}" for name in [*names, "utils", "hooks", "big_modeling"])
    for library in ("accelerate", "runtime"):
        command = [sys.executable, "-c", f"import {library} as library; {asked}"]
        subprocess.run(command, check=True, timeout=600)


def test_utils_has_every_name_that_is_not_left_out_for_a_reason() -> None:
    theirs = importlib.import_module("accelerate.utils")
    names = {name for name in vars(theirs) if not name.startswith("_")}
    modules = {name for name in names if inspect.ismodule(getattr(theirs, name))}
    missing = {name for name in names - modules if not hasattr(runtime.utils, name)}
    assert missing - NOT_HERE.keys() == set()
    assert {name for name in NOT_HERE if hasattr(runtime.utils, name)} == set()


def test_utils_has_what_its_parts_have() -> None:
    """One list for those who import from `utils`, made of the lists of its submodules."""
    parts = (
        *("constants", "dataclasses", "environment", "imports", "launch", "memory", "modeling"),
        *("operations", "other", "random", "tqdm", "versions"),
    )
    found = [importlib.import_module(f"runtime.utils.{part}").__all__ for part in parts]
    assert set(runtime.utils.__all__) >= {name for names in found for name in names}


def parameters(thing: Any) -> list[tuple[str, Any]]:
    """Names and defaults, in order."""
    called = thing.__init__ if inspect.isclass(thing) else thing
    signature = inspect.signature(called)
    return [(one.name, one.default) for one in signature.parameters.values()]


@pytest.mark.parametrize(("theirs", "ours"), list(pairs()))
def test_arguments_are_theirs(theirs: Any, ours: Any) -> None:
    """In their order; ours may have more at the end."""
    assert ours is not None
    wanted = [name for name, _ in parameters(theirs) if name not in ("args", "kwargs")]
    found = [name for name, _ in parameters(ours)]
    assert [name for name in found if name in wanted] == wanted


CLASSES = [pair for pair in pairs() if inspect.isclass(pair.values[0])]


@pytest.fixture
def instances() -> Iterator[dict[type, Any]]:
    """Of classes that pass on what they do not have themselves."""
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    made = (accelerator.state, accelerator.gradient_state, accelerator.prepare(scheduler))
    yield {type(one): one for one in made}
    fresh()


@pytest.mark.parametrize(("theirs", "ours"), CLASSES)
def test_attributes_are_theirs(theirs: Any, ours: Any, instances: dict[type, Any]) -> None:
    attributes = {name for name in dir(theirs) if not name.startswith("_")} - NOT_HERE.keys()
    found = instances.get(ours, ours)
    assert {name for name in attributes if not hasattr(found, name)} == set()


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("runtime", "Acelerator", "module 'runtime' has no attribute 'Acelerator'; did you mean "),
        ("runtime", "Acelerator", "'Accelerator'?"),
        ("runtime.utils", "set_seeed", "did you mean 'set_seed'?"),
        ("runtime.utils.dataclasses", "ProjectConfig", "did you mean 'ProjectConfiguration'?"),
        ("runtime.tracking", "MLFlowTracker", "did you mean 'MLflowTracker'?"),
        ("runtime.hooks", "ModelHok", "did you mean 'ModelHook'?"),
        ("runtime", "xyzzy", "module 'runtime' has no attribute 'xyzzy'"),
    ],
)
def test_a_misspelt_name_is_told_the_right_one(module: str, name: str, told: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(importlib.import_module(module), name)
    assert told in str(error.value)
    assert "xyzzy" not in name or "did you mean" not in str(error.value)


@pytest.mark.parametrize("module", [runtime, runtime.utils], ids=lambda one: str(one.__name__))
def test_completion_offers_public_names_only(module: Any) -> None:
    assert {name for name in dir(module) if name.startswith("_")} <= {"__version__"}
    assert set(dir(module)) >= set(module.__all__)
    assert all(hasattr(module, name) for name in dir(module))
    assert not {name for name in dir(module) if inspect.ismodule(getattr(module, name))}
