"""An optimizer's state is loaded into the tensors that it has, on the CPU and on a GPU."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from runtime import Accelerator
from runtime.checkpoint.formats import load_mapped
from runtime.checkpoint.optimizer_state import load_optimizer_state
from runtime.collectives.nested import map_tensors
from tests.devices import CPU_AND_GPU, NEEDS_GPU
from tests.states import fresh


class Reading(Adam):
    """An optimizer that reads what it loads, as quantizing ones do."""

    read: Any = None

    def load_state_dict(self, state_dict: Any) -> None:
        self.read = copy.deepcopy(state_dict)
        super().load_state_dict(state_dict)


def trained(kind: type[Optimizer], device: str, *, dtype: Any = torch.float32) -> Optimizer:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(4, 3, device=device, dtype=dtype)) for _ in range(3)]
    optimizer = kind(parameters, lr=0.1)  # type: ignore[call-arg]  # of Adam's kind
    step(optimizer)
    return optimizer


def step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for one in group["params"]:
            one.grad = one.detach() + 1
    optimizer.step()


def saved(optimizer: Optimizer, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a state dict, and another one that is mapped to its file."""
    state = copy.deepcopy(optimizer.state_dict())
    torch.save(state, folder / "it")
    return state, load_mapped(folder / "it", "cpu")


def tensors(optimizer: Optimizer) -> list[torch.Tensor]:
    return [one for state in optimizer.state.values() for one in state.values()]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and (one.device, one.dtype) == (other.device, other.dtype)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("device", CPU_AND_GPU)
@pytest.mark.parametrize("kind", [Adam, AdamW, Reading])
def test_a_state_is_loaded_into_the_tensors_that_there_are(
    tmp_path: Path, kind: type[Optimizer], device: str
) -> None:
    optimizer = trained(kind, device)
    state, mapped = saved(optimizer, tmp_path)
    step(optimizer)
    before = tensors(optimizer)
    load_optimizer_state(optimizer, mapped)
    assert same(optimizer.state_dict(), state)
    if isinstance(optimizer, Reading):
        assert same(optimizer.read, map_tensors(torch.Tensor.cpu, state))
    else:
        assert all(one is other for one, other in zip(tensors(optimizer), before, strict=True))
    expected = [one.clone() for one in tensors(optimizer)]
    (tmp_path / "it").write_bytes(bytes((tmp_path / "it").stat().st_size))
    assert all(map(torch.equal, tensors(optimizer), expected))  # none is mapped any more


@pytest.mark.parametrize("device", CPU_AND_GPU)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda one: one.state.clear(), id="no state"),
        pytest.param(lambda one: one.state[first(one)].pop("exp_avg"), id="a part of it"),
        pytest.param(lambda one: one.state[first(one)].update(exp_avg=torch.ones(1)), id="others"),
        pytest.param(
            lambda one: [state.update(exp_avg=state["exp_avg_sq"]) for state in one.state.values()],
            id="a tensor that is in it twice",
        ),
    ],
)
def test_what_does_not_fit_is_replaced(tmp_path: Path, device: str, before: Any) -> None:
    optimizer = trained(Adam, device)
    state, mapped = saved(optimizer, tmp_path)
    before(optimizer)
    load_optimizer_state(optimizer, mapped)
    assert same(optimizer.state_dict(), state)


def first(optimizer: Optimizer) -> Any:
    return next(iter(optimizer.state))


@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_values_are_converted_as_torch_converts_them(tmp_path: Path, device: str) -> None:
    _, mapped = saved(trained(Adam, device), tmp_path)
    ours, torchs = (trained(Adam, device, dtype=torch.bfloat16) for _ in range(2))
    load_optimizer_state(ours, mapped)
    torchs.load_state_dict(load_mapped(tmp_path / "it", "cpu"))
    assert same(ours.state_dict(), torchs.state_dict())


def test_tensors_that_are_one_stay_one(tmp_path: Path) -> None:
    optimizer = trained(Adam, "cpu")
    shared = torch.ones(4, 3)
    for state in optimizer.state.values():
        state["exp_avg"] = shared
    _, mapped = saved(optimizer, tmp_path)
    again = trained(Adam, "cpu")
    load_optimizer_state(again, mapped)
    assert len({id(state["exp_avg"]) for state in again.state.values()}) == 1


def test_a_state_of_another_kind_changes_nothing(tmp_path: Path) -> None:
    optimizer = trained(Adam, "cpu")
    _, mapped = saved(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), tmp_path)
    expected = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="size of optimizer's group"):
        load_optimizer_state(optimizer, mapped)
    assert same(optimizer.state_dict(), expected)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("has_state", [False, True])
def test_loading_takes_no_memory_of_the_gpu_beyond_the_state(
    tmp_path: Path, device: str, *, has_state: bool
) -> None:
    def made() -> tuple[Accelerator, Any, Any]:
        fresh()
        accelerator = Accelerator()
        assert accelerator.device.type == device
        model: Any = nn.Sequential(*[nn.Linear(2048, 2048, bias=False) for _ in range(8)])
        return accelerator, *accelerator.prepare(model, AdamW(model.parameters(), fused=True))

    def trained_a_step(accelerator: Accelerator, model: Any, optimizer: Any) -> None:
        accelerator.backward(model(torch.ones(1, 2048, device=device)).sum())
        optimizer.step()
        optimizer.zero_grad()

    accelerator, model, optimizer = made()
    trained_a_step(accelerator, model, optimizer)
    accelerator.save_state(tmp_path / "it")
    expected = [one.cpu() for one in tensors(optimizer)]
    del model, optimizer
    accelerator, model, optimizer = made()
    if has_state:
        trained_a_step(accelerator, model, optimizer)
    weights = sum(one.nbytes for one in model.parameters())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    accelerator.load_state(tmp_path / "it")
    beyond = torch.cuda.max_memory_allocated() - before
    assert beyond <= 0.05 * 3 * weights + (0 if has_state else 2 * weights)
    assert all(map(torch.equal, (one.cpu() for one in tensors(optimizer)), expected))
