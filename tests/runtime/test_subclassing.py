"""What scripts do with an Accelerator beyond its documented methods works as in Accelerate."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Accelerator
from runtime.config.enums import DistributedType

LISTS = ("_models", "_optimizers", "_schedulers", "_dataloaders", "_custom_objects")


def test_an_accelerator_and_its_models_are_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        accelerator = Accelerator(cpu=True)
        model = accelerator.prepare(nn.Linear(1, 1))
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 1)).sum())
        gone = weakref.ref(model)
        del accelerator, model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", LISTS)
def test_its_lists_of_objects_may_be_replaced_for_a_while(name: str) -> None:
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(1, 1)
    accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    accelerator.register_for_checkpointing(model)
    before = getattr(accelerator, name)
    kept = list(before)
    setattr(accelerator, name, [])
    assert getattr(accelerator, name) == []
    setattr(accelerator, name, before)
    assert getattr(accelerator, name) == kept


def test_objects_that_were_taken_out_are_not_saved(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(1, 1)
    accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    accelerator._optimizers = []
    accelerator.save_state(tmp_path / "one")
    assert not (tmp_path / "one" / "optimizer.bin").exists()
    assert list((tmp_path / "one").glob("*model*"))


def test_its_hooks_can_be_read() -> None:
    accelerator = Accelerator(cpu=True)
    accelerator.register_save_state_pre_hook(print)
    accelerator.register_load_state_pre_hook(print)
    assert list(accelerator._save_model_state_pre_hook.values()) == [print]
    assert list(accelerator._load_model_state_pre_hook.values()) == [print]


def test_what_a_script_sets_in_the_state_is_what_the_accelerator_says() -> None:
    accelerator = Accelerator(cpu=True)
    state: Any = accelerator.state
    state.device = torch.device("meta")
    state.distributed_type = DistributedType.MULTI_GPU
    state.num_processes, state.process_index = 4, 2
    assert accelerator.device == torch.device("meta")
    assert accelerator.distributed_type == DistributedType.MULTI_GPU
    assert (accelerator.num_processes, accelerator.process_index) == (4, 2)


class Overriding(Accelerator):
    """Notes which of its own methods are called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        super().__init__(cpu=True)

    def __getattribute__(self, name: str) -> Any:
        if name in OVERRIDDEN:
            self.called.append(name)
        return super().__getattribute__(name)


OVERRIDDEN = (
    *("prepare_model", "prepare_optimizer", "prepare_data_loader", "prepare_scheduler"),
    *("verify_device_map", "unscale_gradients", "save", "get_state_dict", "no_sync"),
)
TENSORS = torch.utils.data.TensorDataset(torch.ones(3))
PARAMETERS = [nn.Parameter(torch.ones(1))]
CALLS: dict[str, Any] = {  # a method -> a use of the Accelerator that calls it
    "prepare_model": lambda made, _: made.prepare(nn.Linear(1, 1)),
    "prepare_optimizer": lambda made, _: made.prepare(torch.optim.SGD(PARAMETERS, 0.1)),
    "prepare_data_loader": lambda made, _: made.prepare(torch.utils.data.DataLoader(TENSORS)),
    "prepare_scheduler": lambda made, _: made.prepare(
        torch.optim.lr_scheduler.StepLR(torch.optim.SGD(PARAMETERS, 0.1), 1)
    ),
    "verify_device_map": lambda made, _: made.prepare(nn.Linear(1, 1)),
    "unscale_gradients": lambda made, _: made.clip_grad_norm_(PARAMETERS, 1.0),
    "save": lambda made, folder: made.save_model(nn.Linear(1, 1), folder),
    "get_state_dict": lambda made, folder: made.save_model(nn.Linear(1, 1), folder),
    "no_sync": lambda made, _: made.accumulate(nn.Linear(1, 1)),
}


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_a_method_that_a_subclass_overrides_is_called(method: str, tmp_path: Path) -> None:
    made = Overriding()
    CALLS[method](made, tmp_path)
    assert method in made.called
