"""The process' state, next to Accelerate's where both can be made in one process."""

import contextlib
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import accelerate.state
import accelerate.utils
import pytest
import torch
from accelerate import Accelerator as Theirs

import runtime.state
import runtime.utils
from runtime import Accelerator
from runtime.config.enums import DistributedType
from runtime.errors import WorldError
from runtime.state import AcceleratorState, GradientState, PartialState
from runtime.world import device

STATES = (AcceleratorState, GradientState, accelerate.state.AcceleratorState)


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


ATTRIBUTES = (
    *("num_processes", "process_index", "local_process_index", "is_main_process"),
    *("is_local_main_process", "is_last_process", "use_distributed", "device", "mixed_precision"),
    *("sync_gradients", "gradient_accumulation_steps", "split_batches", "even_batches"),
    *("dispatch_batches", "use_seedable_sampler", "non_blocking", "use_stateful_dataloader"),
    *("project_dir", "logging_dir", "save_iteration", "rng_types", "step", "scaler"),
    *("multi_device", "should_save_model", "fp8_backend", "deepspeed_plugin", "is_fsdp2"),
    *("device_placement", "step_scheduler_with_optimizer", "optimizer_step_was_skipped"),
)


def made(library: Any, options: dict[str, Any]) -> Any:
    """An Accelerator; what is about loading goes by its own configuration."""
    loading = {name: options[name] for name in options if name == "split_batches"}
    config = library.utils.DataLoaderConfiguration(**loading)
    others = {name: value for name, value in options.items() if name not in loading}
    return library.Accelerator(cpu=True, dataloader_config=config, **others)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="all at its default"),
        pytest.param({"mixed_precision": "bf16"}, id="in bfloat16"),
        pytest.param({"gradient_accumulation_steps": 4}, id="accumulating"),
        pytest.param(
            {"split_batches": True, "project_dir": "project"}, id="splitting, in a project"
        ),
        pytest.param({"rng_types": ["torch"], "device_placement": False}, id="nothing is placed"),
    ],
)
def test_attributes_are_those_of_accelerate(options: dict[str, Any]) -> None:
    theirs, ours = (made(module, options) for module in (accelerate, runtime))
    found = [(name, str(getattr(ours, name))) for name in ATTRIBUTES]
    assert found == [(name, str(getattr(theirs, name))) for name in ATTRIBUTES]
    assert repr(ours.state).split() == repr(theirs.state).split()
    assert str(ours.distributed_type) == str(theirs.distributed_type)


@pytest.mark.parametrize("library", [Accelerator, Theirs])
@pytest.mark.parametrize("other", ["bf16", "fp8"])
def test_a_second_accelerator_cannot_ask_for_another_precision(library: Any, other: str) -> None:
    library(cpu=True)
    with pytest.raises(ValueError, match="AcceleratorState has already been initialized"):
        library(cpu=True, mixed_precision=other)


@pytest.mark.parametrize("library", [Accelerator, Theirs])
def test_a_second_accelerator_shares_the_first_ones_state(library: Any) -> None:
    first = library(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    second = library(gradient_accumulation_steps=3)
    assert second.mixed_precision == "bf16"
    assert first.gradient_accumulation_steps == second.gradient_accumulation_steps == 3
    assert first.state.__dict__ == second.state.__dict__


@pytest.mark.parametrize("module", [accelerate.state, runtime.state])
def test_a_state_that_was_forgotten_says_so(module: Any) -> None:
    state = module.PartialState(cpu=True)
    module.PartialState._reset_state()
    with pytest.raises(AttributeError, match=r"`PartialState._reset_state\(\)` was called"):
        _ = state.device
    with pytest.raises(AttributeError, match="no attribute 'devise'"):
        _ = state.devise


@pytest.mark.parametrize("module", [accelerate.state, runtime.state])
def test_a_state_needs_an_accelerator_first(module: Any) -> None:
    with pytest.raises(ValueError, match="make sure to properly initialize your accelerator"):
        module.AcceleratorState()


def through_bytes(one: Any) -> Any:
    """A copy, as another process would have it."""
    return pickle.loads(pickle.dumps(one))  # noqa: S301  # written here


@pytest.mark.parametrize("copied", [copy.deepcopy, through_bytes])
def test_a_copy_is_a_view_of_the_same_state(copied: Any) -> None:
    accelerator = Accelerator(cpu=True)
    again = copied(accelerator)
    again.gradient_state._set_sync_gradients(False)
    assert not accelerator.sync_gradients
    assert copied(PartialState()).device == torch.device("cpu")


def test_every_kind_of_world_has_a_device_and_every_device_a_kind() -> None:
    kinds = [one.distributed_type for one in device.KINDS]
    worlds = [kind for kind in DistributedType if kind.name.startswith("MULTI_")]
    assert sorted(kinds) == sorted([*worlds, DistributedType.XLA, DistributedType.NO])
    assert device.choose(cpu=True, distributed=True) is device.CPU


def test_a_device_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert PartialState().device == torch.device("meta")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        pytest.param({"mixed_precision": "fp16"}, ValueError, "requires a GPU", id="fp16 on a CPU"),
        pytest.param({"mixed_precision": "fp4"}, ValueError, "Unknown mixed_precision", id="fp4"),
        pytest.param({"gradient_accumulation_steps": 0}, ValueError, "at least 1", id="0 batches"),
        pytest.param({"rng_types": ["dice"]}, ValueError, "rng_types must be of", id="dice"),
        pytest.param({"deepspeed_plugin": 1}, NotImplementedError, "DeepSpeed", id="DeepSpeed"),
        pytest.param({"kwargs_handlers": [3]}, ValueError, "Unsupported kwargs handler", id="3"),
    ],
)
def test_what_cannot_be_had_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Accelerator(cpu=True, **options)


@pytest.mark.parametrize("library", [Accelerator, Theirs])
def test_an_accelerator_whose_state_was_forgotten_says_so(library: Any) -> None:
    accelerator = library(cpu=True)
    type(accelerator.state)._reset_state()
    with pytest.raises(AttributeError, match=r"happens if `AcceleratorState._reset_state\(\)`"):
        accelerator.prepare(torch.nn.Linear(1, 1))


NCCL = "cpu:gloo,cuda:nccl"


@pytest.mark.parametrize(
    ("backend", "processes", "found", "env", "is_refused"),
    [
        pytest.param(NCCL, 2, 1, {}, True, id="two processes of a pod with one GPU"),
        pytest.param("nccl", 9, 8, {}, True, id="one process too many"),
        pytest.param(NCCL, 8, 8, {}, False, id="a GPU for each"),
        pytest.param(NCCL, 1, 8, {}, False, id="several GPUs for one process"),
        pytest.param("gloo", 2, 1, {}, False, id="gloo lets processes share a GPU"),
        pytest.param("cpu:gloo,npu:hccl", 2, 1, {}, False, id="other devices are not judged"),
        pytest.param(
            NCCL, 2, 1, {"CUDA_VISIBLE_DEVICES": "1"}, False, id="each may have been given its own"
        ),
    ],
)
def test_nccl_has_a_gpu_for_each_process_of_a_pod(
    backend: str, processes: int, found: int, env: dict[str, str], is_refused: bool
) -> None:
    words = f"is {processes} and torch finds {found}: start {found}"
    with pytest.raises(WorldError, match=words) if is_refused else contextlib.nullcontext():
        device.check_own_gpu(backend, processes, env, lambda: found)
