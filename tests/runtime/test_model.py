"""What is put around a model and taken off again, next to Accelerate's."""

import copy
from collections.abc import Iterator
from typing import Any

import accelerate.state
import accelerate.utils
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import runtime.utils
from runtime import Accelerator
from runtime.parallel.containers import Replicated
from runtime.state import AcceleratorState


class Blocks(nn.Module):
    """A model with blocks of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return x


def seeded() -> tuple[Blocks, torch.Tensor]:
    """The same model and data each time."""
    torch.manual_seed(3)
    return Blocks(), torch.randn(5, 4)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_outputs_are_those_of_accelerate_and_in_float32(precision: str) -> None:
    found = []
    for library in (runtime, accelerate):
        model, data = seeded()
        prepared = library.Accelerator(cpu=True, mixed_precision=precision).prepare(model)
        found.append(prepared(data))
    assert torch.equal(*found)
    assert found[0].dtype == torch.float32


class Again(nn.Linear):
    """A model whose forward calls itself, as self-conditioning does."""

    def forward(self, x: torch.Tensor, times: int = 2) -> torch.Tensor:
        x = super().forward(x)
        return self(x, times - 1) if times else x


def test_a_forward_within_a_forward_leaves_no_autocast_behind() -> None:
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(Again(4, 4))
    outputs = prepared(torch.ones(1, 4))
    assert not torch.is_autocast_enabled("cpu")
    assert outputs.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prepared(torch.ones(1, 4)), outputs)


def test_the_scripts_own_model_comes_out_of_it_again() -> None:
    model, data = seeded()
    plain = model(data)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(model)
    assert accelerator.prepare(prepared) is prepared
    assert not torch.equal(accelerator.unwrap_model(prepared)(data), plain)
    assert torch.equal(accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)(data), plain)
    assert "forward" not in vars(model)


def test_a_copy_computes_with_its_own_weights() -> None:
    model, data = seeded()
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    copied = copy.deepcopy(prepared)
    with torch.no_grad():
        for parameter in prepared.parameters():
            parameter.zero_()
    assert copied(data).any()
    assert not prepared(data).any()


def test_one_process_needs_no_distributed_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    model, _ = seeded()
    assert Accelerator(cpu=True).prepare(model) is model
    assert not isinstance(model, DistributedDataParallel)


@pytest.mark.filterwarnings("ignore")  # torch's own, of what its compiler imports and asks
@pytest.mark.parametrize("regional", [False, True], ids=["as a whole", "each kind of block"])
def test_a_compiled_model_is_the_same_model(regional: bool) -> None:
    model, data = seeded()
    plain = model(data)
    plugin = runtime.utils.TorchDynamoPlugin(backend="eager", use_regional_compilation=regional)
    accelerator = Accelerator(cpu=True, dynamo_plugin=plugin)
    prepared = accelerator.prepare(model)
    assert torch.equal(prepared(data), plain)
    assert runtime.utils.is_compiled_module(prepared) is not regional
    assert accelerator.unwrap_model(prepared, keep_torch_compile=False) is model
    assert accelerator.get_state_dict(prepared).keys() == Blocks().state_dict().keys()


DYNAMO = "ACCELERATE_DYNAMO_"


@pytest.mark.parametrize(
    ("options", "env"),
    [
        pytest.param({}, {}, id="nothing is compiled"),
        pytest.param({"backend": "inductor"}, {}, id="a backend"),
        pytest.param({}, {"BACKEND": "AOT_EAGER", "MODE": "max-autotune"}, id="by the environment"),
        pytest.param({"backend": "eager", "fullgraph": True}, {"BACKEND": "TVM"}, id="by both"),
        pytest.param({"dynamic": False}, {"USE_DYNAMIC": "true"}, id="shapes that change"),
    ],
)
def test_the_compiler_is_told_what_accelerate_tells_it(
    options: dict[str, Any], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(f"{DYNAMO}{name}", value)
    ours, theirs = (library.utils.TorchDynamoPlugin(**options) for library in (runtime, accelerate))
    assert ours.to_dict() == theirs.to_dict()
    assert ours.to_kwargs() == theirs.to_kwargs()


def test_a_model_that_was_placed_on_several_devices_stays_there() -> None:
    model: Any = seeded()[0]
    model.hf_device_map = {"blocks.0": "cpu", "blocks.1": "disk"}
    accelerator = Accelerator(cpu=True)
    assert accelerator.verify_device_map(model)
    assert accelerator.prepare(model) is model


@pytest.mark.parametrize("buffers", [False, True])
def test_models_without_memory(buffers: bool) -> None:
    with runtime.init_empty_weights(include_buffers=buffers):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all(buffer.is_meta is buffers for buffer in model.buffers())
    assert not nn.Linear(1, 1).weight.is_meta


@pytest.fixture
def alone_in_a_group() -> Iterator[None]:
    store = distributed.HashStore()  # type: ignore[attr-defined]  # it is documented
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        distributed.destroy_process_group()


@pytest.mark.usefixtures("alone_in_a_group")
def test_a_model_that_the_script_has_put_into_ddp_is_not_put_into_another_one() -> None:
    model = DistributedDataParallel(nn.Linear(1, 1))
    assert Replicated(Accelerator(cpu=True).state).wrap(model) is model


@pytest.mark.usefixtures("alone_in_a_group")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_backward_reduces_gradients_although_its_forward_ran_without(is_compiled: bool) -> None:
    replica = DistributedDataParallel(nn.Linear(2, 2))
    prepared: Any = torch.compile(replica, backend="eager") if is_compiled else replica
    with replica.no_sync():
        loss = replica(torch.ones(1, 2)).sum()
        with Accelerator.trigger_sync_in_backward(prepared):
            assert replica.require_backward_grad_sync
            loss.backward()
        assert not replica.require_backward_grad_sync
