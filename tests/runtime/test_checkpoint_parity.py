"""Checkpoints next to Accelerate's: the same files, and each library loads the other's."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime.checkpoint import manifest

LIBRARIES = ["accelerate", "runtime"]
OURS = {"manifest.json", "dl_state_dict.bin", "dl_state_dict_1.bin"}  # beside Accelerate's


class Kept:
    """A registered object that keeps what it is given."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.first(x))


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "Adam, a tensor for its rate": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1)),
    "AdamW, amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
}


class Training:
    """Two of everything, the second of other sizes."""

    def __init__(self, library: str, seed: int, optimizer: str = "Adam", **project: Any) -> None:
        torch.manual_seed(seed)
        accelerator = importlib.import_module(library).Accelerator
        config = importlib.import_module(f"{library}.utils").ProjectConfiguration(**project)
        self.accelerator = accelerator(cpu=True, project_config=config)
        models = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), Tied()]
        optimizers = [OPTIMIZERS[optimizer](model.parameters()) for model in models]
        schedulers = [torch.optim.lr_scheduler.StepLR(one, 1, 0.5) for one in optimizers]
        loaders = [DataLoader(TensorDataset(torch.randn(4, 3)), batch_size=2) for _ in models]
        prepared = self.accelerator.prepare(*models, *optimizers, *schedulers, *loaders)
        self.models, self.optimizers = prepared[:2], prepared[2:4]
        self.schedulers = prepared[4:6]
        self.custom = [Kept({"seed": seed}), Kept([torch.tensor(seed)])]
        self.accelerator.register_for_checkpointing(*self.custom)

    def step(self) -> None:
        for model, optimizer, scheduler in zip(
            self.models, self.optimizers, self.schedulers, strict=True
        ):
            x = torch.randn(4, 3)

            def closure(model: Any = model, optimizer: Any = optimizer, x: Any = x) -> Any:
                optimizer.zero_grad()
                loss = model(x).square().mean()
                self.accelerator.backward(loss)
                return loss

            closure()
            optimizer.step(closure)
            scheduler.step()

    def state(self) -> str:
        """Everything that a checkpoint is to bring back."""
        kept: Any = [one.state_dict() for one in (*self.models, *self.optimizers)]
        kept += [one.state_dict() for one in self.schedulers]
        return repr([kept, [one.state for one in self.custom], torch.get_rng_state().tolist()])


@pytest.mark.parametrize("is_safe", [True, False])
def test_the_files_are_called_as_accelerates(tmp_path: Path, *, is_safe: bool) -> None:
    names = {}
    for library in LIBRARIES:
        training = Training(library, 1)
        training.step()
        training.accelerator.save_state(tmp_path / library, safe_serialization=is_safe)
        names[library] = {one.name for one in (tmp_path / library).iterdir()}
    assert names["runtime"] == names["accelerate"] | OURS


WAYS = [("runtime", "accelerate"), ("accelerate", "runtime"), ("runtime", "runtime")]


@pytest.mark.parametrize(
    ("optimizer", "is_safe"), [*((one, True) for one in OPTIMIZERS), ("Adam", False)]
)
@pytest.mark.parametrize(("saves", "loads"), WAYS)
def test_each_loads_what_the_other_has_saved(
    tmp_path: Path, saves: str, loads: str, optimizer: str, *, is_safe: bool
) -> None:
    """Into an optimizer that is new, and into one that has a state; both then train on alike."""
    first = Training(saves, 1, optimizer)
    first.step()
    first.accelerator.save_state(str(tmp_path), safe_serialization=is_safe)
    expected = first.state()
    first.step()
    then = first.state()
    for steps in (0, 1):
        second = Training(loads, 2 + steps, optimizer)
        for _ in range(steps):
            second.step()
        second.accelerator.load_state(str(tmp_path))
        assert second.state() == expected
        second.step()
        assert second.state() == then


def test_what_is_loaded_does_not_depend_on_the_files_any_more(tmp_path: Path) -> None:
    """They are overwritten where they lie, as no save here does."""
    training = Training("runtime", 1, "Adam, a tensor for its rate")
    training.step()
    training.accelerator.save_state(tmp_path)
    other = Training("runtime", 2, "Adam, a tensor for its rate")
    other.accelerator.load_state(tmp_path)
    before = other.state()
    for path in [*tmp_path.glob("optimizer*"), *tmp_path.glob("model*")]:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
    assert other.state() == before


def test_an_optimizer_keeps_its_memory(tmp_path: Path) -> None:
    """What it has is written to; there are never two states."""
    training = Training("runtime", 1)
    training.step()
    training.accelerator.save_state(tmp_path)
    places = [one.data_ptr() for one in tensors(training)]
    training.step()
    training.accelerator.load_state(tmp_path)
    assert [one.data_ptr() for one in tensors(training)] == places


def tensors(training: Training) -> list[torch.Tensor]:
    return [
        one
        for optimizer in training.optimizers
        for state in optimizer.state.values()
        for one in state.values()
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_hooks_get_the_same_and_may_take_over(tmp_path: Path, library: str) -> None:
    """A save hook writes a model itself, and a load hook loads it: the library writes the rest."""
    training = Training(library, 1)
    seen: list[Any] = []

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        seen.append([len(models), [sorted(one) for one in weights], Path(folder).is_dir()])
        torch.save(weights.pop(), Path(folder, "own.bin"))

    def load(models: list[Any], folder: str) -> None:
        seen.append([len(models), Path(folder).name])
        models.pop().load_state_dict(torch.load(Path(folder, "own.bin")))

    handles = [
        training.accelerator.register_save_state_pre_hook(save),
        training.accelerator.register_load_state_pre_hook(load),
    ]
    expected = training.state()
    training.accelerator.save_state(tmp_path / "it")
    training.step()
    training.accelerator.load_state(tmp_path / "it")
    assert training.state() == expected
    names = {one.name for one in (tmp_path / "it").iterdir()}
    assert "own.bin" in names
    assert "model_1.safetensors" not in names
    bare = ["first.weight", "second.bias", "second.weight"]
    first = ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean"]
    first += ["1.running_var", "1.weight"]
    assert seen == [[2, [first, bare], True], [2, "it"]]
    if library == "runtime":
        files = json.loads((tmp_path / "it" / manifest.MANIFEST).read_text())["files"]
        assert "own.bin" in files
    for handle in handles:
        handle.remove()
    training.accelerator.save_state(tmp_path / "again")
    assert len(seen) == 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_naming_retention_and_numbers(tmp_path: Path, library: str) -> None:
    project: dict[str, Any] = {"automatic_checkpoint_naming": True, "total_limit": 2}
    training = Training(library, 1, project_dir=str(tmp_path), **project)
    for _ in range(3):
        training.accelerator.save_state()
    assert {one.name for one in (tmp_path / "checkpoints").iterdir()} == {
        "checkpoint_1",
        "checkpoint_2",
    }
    assert training.accelerator.save_iteration == 3


@pytest.mark.parametrize("library", LIBRARIES)
def test_as_many_custom_objects_must_be_there(tmp_path: Path, library: str) -> None:
    training = Training(library, 1)
    training.accelerator.save_state(tmp_path)
    training.accelerator.register_for_checkpointing(Kept(1))
    with pytest.raises(RuntimeError, match="Number of custom checkpoints in folder"):
        training.accelerator.load_state(tmp_path)


NUMBERS = torch.arange(4.0)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(NUMBERS.detach(), id="the same"),
        pytest.param(NUMBERS.view(torch.int32), id="the same, read as other numbers"),
        pytest.param(NUMBERS.clone(), id="as many, elsewhere"),
        pytest.param(torch.arange(8.0).view(2, 4).t(), id="not contiguous"),
    ],
)
def test_the_same_weights_are_left_out_as_in_accelerate(other: torch.Tensor) -> None:
    kept = []
    for library in LIBRARIES:
        importlib.import_module(library).PartialState(cpu=True)
        clean = importlib.import_module(f"{library}.utils").clean_state_dict_for_safetensors
        kept.append(
            {name: one.tolist() for name, one in clean({"first": NUMBERS, "second": other}).items()}
        )
    assert kept[0] == kept[1]
