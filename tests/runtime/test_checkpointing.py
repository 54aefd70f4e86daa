import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils.modeling import load_checkpoint_in_model
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.checkpoint.stores.store import Store
from runtime.checkpoint.stores.volume import Volume
from runtime.config.plugins import DataLoaderConfiguration, ProjectConfiguration


class Training:
    """A training that can be begun, saved, and begun again."""

    def __init__(self, folder: Path, *, workers: int = 0, **config: Any) -> None:
        torch.manual_seed(1)
        project = ProjectConfiguration(str(folder), automatic_checkpoint_naming=True, total_limit=2)
        self.accelerator = Accelerator(
            project_config=project, dataloader_config=DataLoaderConfiguration(**config)
        )
        model = nn.Linear(3, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
        data = TensorDataset(torch.randn(22, 3, generator=torch.Generator().manual_seed(2)))
        loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers)
        prepared: Any = self.accelerator.prepare(model, optimizer, loader, scheduler)
        self.model, self.optimizer, self.loader, self.scheduler = prepared

    def steps(self, epochs: int, *, save_at: int = -1) -> list[list[float]]:
        """Every batch, and noise drawn with it; a checkpoint behind one step."""
        seen = []
        while self.loader.iteration < epochs:
            for (x,) in self.loader:
                noise = torch.rand(1).item() + random.random()
                loss = self.model(x).square().mean() + noise
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                seen.append([*x.flatten().tolist(), noise])
                if len(seen) == save_at:
                    self.accelerator.save_state()
        return seen

    def weights(self) -> list[float]:
        return [x for p in self.model.parameters() for x in p.flatten().tolist()]


@pytest.mark.parametrize("config", [{}, {"use_seedable_sampler": True}, {"shuffle": "keyed"}])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("save_at", [1, 5, 6, 7, 11, 12])
def test_a_training_goes_on_bit_by_bit(
    tmp_path: Path, save_at: int, workers: int, config: dict[str, Any]
) -> None:
    """From the middle of an epoch, its last batch, and the epoch after the first."""
    whole = Training(tmp_path, workers=workers, **config)
    seen = whole.steps(2, save_at=save_at)
    resumed = Training(tmp_path, workers=workers, **config)
    resumed.accelerator.load_state()
    assert resumed.steps(2) == seen[save_at:]
    assert resumed.weights() == whole.weights()
    assert resumed.scheduler.state_dict() == whole.scheduler.state_dict()


class Plain(IterableDataset[int]):
    """0 to n-1; counts what it is asked for, and can only be gone through."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked = 0

    def __iter__(self) -> Iterator[int]:
        return self.count(0)

    def count(self, start: int) -> Iterator[int]:
        for i in range(start, self.n):
            self.asked += 1
            yield i


class Seeking(Plain):
    """The same, which can begin anywhere."""

    def iter_from(self, start: int) -> Iterator[int]:
        return self.count(start)


@pytest.mark.parametrize(("kind", "asked"), [(Seeking, 3), (Plain, 23)])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_iterable_dataset_begins_where_it_was(kind: Any, asked: int, workers: int) -> None:
    accelerator = Accelerator()
    first, second = kind(23), kind(23)
    loader: Any = accelerator.prepare(DataLoader(first, batch_size=4, num_workers=workers))
    states = [loader.state_dict() for _ in loader]
    again: Any = accelerator.prepare(DataLoader(second, batch_size=4, num_workers=workers))
    again.load_state_dict(states[4])
    assert [batch.tolist() for batch in again] == [[20, 21, 22]]
    if not workers:
        assert second.asked == asked


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    training = Training(tmp_path)
    first = training.accelerator.save_state()
    before = training.weights()
    training.steps(1)
    second = training.accelerator.save_state()
    size = (second / "optimizer.bin").stat().st_size
    (second / "optimizer.bin").write_bytes(b"torn")
    assert manifest.damage(second) == (
        f"{second / 'optimizer.bin'} has changed since it was written: 4 bytes of {size}"
    )
    training.accelerator.load_state()
    assert training.weights() == before
    with pytest.raises(ValueError, match="has changed since it was written"):
        training.accelerator.load_state(second)
    (first / "manifest.json").unlink()
    with pytest.raises(ValueError, match="must have an undamaged checkpoint, got 2"):
        training.accelerator.load_state()


def test_a_save_that_dies_leaves_the_old_checkpoint_and_no_new_one(tmp_path: Path) -> None:
    training = Training(tmp_path)
    first = training.accelerator.save_state()

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = training.accelerator.register_save_state_pre_hook(die)
    with pytest.raises(KeyboardInterrupt):
        training.accelerator.save_state()
    assert manifest.checkpoints_in(first.parent) == [first]
    handle.remove()
    assert training.accelerator.save_state().name == "checkpoint_1"
    assert sorted(one.name for one in first.parent.iterdir()) == ["checkpoint_0", "checkpoint_1"]


def test_old_checkpoints_go_when_the_new_one_is_there(tmp_path: Path) -> None:
    training = Training(tmp_path)
    saved = [training.accelerator.save_state() for _ in range(11)]
    assert manifest.checkpoints_in(saved[0].parent) == saved[-2:]


def test_the_last_valid_checkpoint_is_never_removed(tmp_path: Path) -> None:
    training = Training(tmp_path)
    saved = [training.accelerator.save_state() for _ in range(2)]
    (saved[1] / "manifest.json").unlink()
    assert Store(Volume(saved[0].parent), keep=1).retain() == []
    assert saved[0].is_dir()


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    Training(tmp_path).accelerator.save_state()
    restarted = Training(tmp_path)
    restarted.accelerator.load_state()
    assert restarted.accelerator.save_state().name == "checkpoint_1"


def test_other_files_of_a_directory_that_is_named_stay(tmp_path: Path) -> None:
    accelerator = Accelerator()
    accelerator.prepare(nn.Linear(2, 2))
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        assert accelerator.save_state(tmp_path) == tmp_path
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert manifest.damage(tmp_path) is None


def test_a_model_is_divided_into_files_of_a_size(tmp_path: Path) -> None:
    model, again = (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(2))
    Accelerator().save_model(model, tmp_path, max_shard_size=300)
    assert len(list(tmp_path.glob("model-0000?-of-00002.safetensors"))) == 2
    load_checkpoint_in_model(again, str(tmp_path))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
