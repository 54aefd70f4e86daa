"""Checkpoints that are written while the training goes on."""

import errno
import gc
import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.checkpoint.snapshot import Snapshots
from runtime.checkpoint.stores.opening import open_store
from runtime.config.plugins import ProjectConfiguration
from runtime.errors import CheckpointError
from runtime.state import AcceleratorState
from tests.devices import CPU_AND_GPU

ROOT = Path(__file__).parents[2]


def test_an_accelerator_that_is_gone_leaves_no_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(nn.Linear(1, 1))
    accelerator.save_state(tmp_path / "saved")
    own = set(threading.enumerate()) - before
    assert own
    del accelerator
    AcceleratorState._reset_state(reset_partial_state=True)
    gc.collect()
    for thread in own:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in own)


class Gate:
    """A registered object whose pickling waits until it is opened."""

    opened: ClassVar[dict[int, threading.Event]] = {}

    def __init__(self) -> None:
        self.opened[id(self)] = threading.Event()
        self.key = id(self)

    def open(self) -> None:
        self.opened[self.key].set()

    def state_dict(self) -> dict[str, Any]:
        return {"waits": Waits(self.key)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


class Waits:
    """What is in its state."""

    def __init__(self, key: int) -> None:
        self.key = key

    def __deepcopy__(self, _: Any) -> "Waits":
        return self

    def __reduce__(self) -> Any:
        assert Gate.opened[self.key].wait(60)
        return dict, ()


class Full:
    """A registered object that finds no room on the disk."""

    def state_dict(self) -> dict[str, Any]:
        return {"full": self}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""

    def __deepcopy__(self, _: Any) -> "Full":
        return self

    def __reduce__(self) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def behind(folder: Path, **config: Any) -> tuple[Accelerator, nn.Module, Any]:
    project = ProjectConfiguration(
        str(folder), automatic_checkpoint_naming=True, write_behind=True, **config
    )
    accelerator = Accelerator(project_config=project)
    model = nn.Linear(3, 2)
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters()))
    step(model, optimizer)
    return accelerator, model, optimizer


def step(model: nn.Module, optimizer: Any) -> None:
    parameter = next(model.parameters())
    model(torch.ones(1, 3, device=parameter.device)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def values(model: nn.Module, optimizer: Any) -> list[Any]:
    states = optimizer.state_dict()["state"]
    tensors = [*model.parameters(), *(x for i in states for x in states[i].values())]
    return [x.tolist() for x in tensors]


def test_what_is_written_is_what_was_when_save_state_was_called(tmp_path: Path) -> None:
    accelerator, model, optimizer = behind(tmp_path)
    gate = Gate()
    accelerator.register_for_checkpointing(gate)
    before, drawn = values(model, optimizer), torch.get_rng_state()
    saved = accelerator.save_state()
    step(model, optimizer)
    torch.rand(3)
    assert not saved.exists()
    gate.open()
    accelerator.wait_for_checkpoint()
    assert manifest.damage(saved) is None
    accelerator.load_state()
    assert values(model, optimizer) == before
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("then", ["save_state", "load_state", "end_training"])
def test_the_next_of_these_waits_for_it(tmp_path: Path, then: str) -> None:
    accelerator, *_ = behind(tmp_path)
    gate = Gate()
    accelerator.register_for_checkpointing(gate)
    saved = accelerator.save_state()
    assert not saved.exists()
    threading.Thread(target=gate.open).start()
    getattr(accelerator, then)()
    assert manifest.damage(saved) is None
    accelerator.wait_for_checkpoint()


@pytest.mark.parametrize(
    "then", ["save_state", "load_state", "end_training", "wait_for_checkpoint"]
)
def test_an_error_is_raised_by_the_next_of_these_once(tmp_path: Path, then: str) -> None:
    accelerator, *_ = behind(tmp_path)
    first = accelerator.save_state()
    accelerator.register_for_checkpointing(Full())
    failed = accelerator.save_state()
    with pytest.raises(CheckpointError, match=rf"{failed} could not .*No space left") as caught:
        getattr(accelerator, then)()
    assert isinstance(caught.value.__cause__, OSError)
    assert [one.name for one in first.parent.iterdir()] == [first.name]
    accelerator._custom_objects.clear()
    saved = accelerator.save_state()
    accelerator.wait_for_checkpoint()
    assert manifest.damage(saved) is None


def test_a_checkpoint_is_uploaded_behind_the_training_and_an_error_is_told(tmp_path: Path) -> None:
    accelerator, *_ = behind(tmp_path)
    accelerator.project_configuration.automatic_checkpoint_naming = False
    store, may_go_on = (
        open_store("memory://behind", staging=tmp_path / "staging"),
        threading.Event(),
    )

    def save(number: int, local: Path) -> None:
        def publish() -> None:
            assert may_go_on.wait(60)
            store.publish(local, number)

        accelerator._checkpointer.save(
            store.stage(number), scaler=None, safe_serialization=True, then=publish
        )

    staged = store.stage(3)
    save(3, staged)
    assert store.newest().number is None
    may_go_on.set()
    accelerator.wait_for_checkpoint()
    assert store.newest().number == 3
    assert not staged.exists()
    accelerator.load_state(store.fetch(3, tmp_path / "into"))
    save(4, tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"checkpoint_4 could not be written: .*nothing"):
        accelerator.wait_for_checkpoint()
    assert store.newest().number == 3


def test_without_write_behind_the_error_is_save_states(tmp_path: Path) -> None:
    accelerator = Accelerator()
    accelerator.register_for_checkpointing(Full())
    with pytest.raises(CheckpointError, match=r"it could not be written: .*No space left"):
        accelerator.save_state(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_in_earnest_leaves_the_older_one(tmp_path: Path) -> None:
    """A limit on the size of files is the operating system's own refusal."""
    program = (
        "import resource, signal, torch, runtime\n"
        "from runtime.utils import ProjectConfiguration\n"
        "a = runtime.Accelerator(project_config=ProjectConfiguration("
        f"{str(tmp_path)!r}, automatic_checkpoint_naming=True))\n"
        "model = a.prepare(torch.nn.Linear(300, 300))\n"
        "a.save_state()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "a.save_state()\n"
    )
    done = run(program)
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr
    assert [one.name for one in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_0"]
    assert manifest.damage(tmp_path / "checkpoints" / "checkpoint_0") is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_interpreters_end_waits_and_shows_an_error(tmp_path: Path, *, fails: bool) -> None:
    program = (
        "import torch, runtime\n"
        "from runtime.utils import ProjectConfiguration\n"
        "from tests.runtime.test_checkpoint_behind import Full\n"
        "a = runtime.Accelerator(project_config=ProjectConfiguration("
        f"{str(tmp_path)!r}, automatic_checkpoint_naming=True, write_behind=True))\n"
        "model = a.prepare(torch.nn.Linear(2000, 2000))\n"
        f"a.register_for_checkpointing(*[Full()][:{int(fails)}])\n"
        "a.save_state()\n"
    )
    done = run(program)
    assert ("runtime: the last checkpoint is missing" in done.stderr) == fails
    assert ("No space left" in done.stderr) == fails
    assert "Traceback" not in done.stderr
    found = manifest.checkpoints_in(tmp_path / "checkpoints")
    assert [manifest.damage(one) for one in found] == ([] if fails else [None])


def run(program: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=env,
        text=True,
        capture_output=True,
        check=False,
        timeout=600,
    )


def test_memory_is_used_again_where_sizes_match() -> None:
    snapshots = Snapshots()
    state: dict[str, Any] = {
        "a": torch.arange(3.0),
        "b": [torch.zeros(2, 2), torch.zeros(2, 2)],
        "n": 1,
    }
    first = snapshots.take(state)
    places = {one.data_ptr() for one in (first["a"], *first["b"])}
    state["a"].fill_(7)
    second = snapshots.take(state | {"c": torch.ones(5)})
    assert {one.data_ptr() for one in (second["a"], *second["b"])} == places
    assert second["a"].tolist() == [7, 7, 7]
    assert second["c"].data_ptr() not in places


class Average:
    """A registered object that has tensors in objects of its own, with attributes and views."""

    def __init__(self, device: str) -> None:
        self.buffer = torch.arange(8.0, device=device)
        self.mean = nn.Parameter(torch.ones(2, device=device))
        self.buffer.note = {"of": torch.ones(4, device=device)}  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {"own": self, "views": [self.buffer[:3], self.buffer[2:]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


class Tensors(pickle.Pickler):
    """All tensors of an object, wherever they are in it."""

    def __init__(self, state: Any) -> None:
        super().__init__(io.BytesIO())
        self.found: list[torch.Tensor] = []
        self.dump(state)

    def persistent_id(self, one: Any) -> int | None:
        if not isinstance(one, torch.Tensor):
            return None
        self.found.append(one)
        for attribute in vars(one).values():
            self.found += Tensors(attribute).found
        return len(self.found)


def storages(state: Any) -> dict[int, int]:
    """Where the memory of all tensors is, and how much."""
    known = (one.untyped_storage() for one in Tensors(state).found)
    return {one.data_ptr(): one.nbytes() for one in known}


@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_every_tensor_of_every_part_is_copied_once_to_memory_that_is_used_again(
    tmp_path: Path, device: str
) -> None:
    accelerator, model, optimizer = behind(tmp_path)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    loader = DataLoader(TensorDataset(torch.ones(4, 3)), shuffle=True)
    accelerator.prepare(schedule, loader)
    accelerator.register_for_checkpointing(Average(device))
    (tmp_path / "parts").mkdir()
    checkpointer = accelerator._checkpointer
    found = checkpointer._collected(tmp_path / "parts", None, safe_serialization=True)
    first = checkpointer._snapshots.take(found)
    checkpointer._snapshots.copies.wait()
    assert len(Tensors(first).found) == len(Tensors(found).found) > 10
    assert sum(storages(first).values()) == sum(storages(found).values())
    assert not storages(first).keys() & storages(found).keys()
    for one, other in zip(Tensors(first).found, Tensors(found).found, strict=True):
        assert one.device.type == "cpu"
        assert one.is_pinned() == (other.device.type == "cuda")
        assert torch.equal(one, other.cpu())
    before = storages(first)
    step(model, optimizer)
    again = checkpointer._snapshots.take(
        checkpointer._collected(tmp_path / "parts", None, safe_serialization=True)
    )
    assert storages(again) == before


def test_a_snapshot_takes_the_memory_of_one_copy_and_the_next_takes_none() -> None:
    program = (
        "import resource, torch\n"
        "from runtime.checkpoint.formats import Part\n"
        "from runtime.checkpoint.snapshot import Snapshots\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "snapshots = Snapshots()\n"
        "parts = [Part(str(i), {'x': [torch.ones(2**20) for _ in range(16)]}) for i in range(3)]\n"
        "snapshots.take([Part('a', {'x': torch.ones(1)})])\n"
        "before = used()\n"
        "kept = snapshots.take(parts)\n"
        "first = used()\n"
        "kept = snapshots.take(parts)\n"
        "print(first - before, used() - first)\n"
    )
    done = run(program)
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    whole = 3 * 16 * 2**12  # KiB
    assert first < 1.1 * whole
    assert second < 0.1 * whole


def test_a_copy_is_the_same_and_apart() -> None:
    shared = torch.arange(6.0)
    state: dict[str, Any] = {
        "tied": [shared.detach(), shared.detach()],
        "bits": shared.view(torch.int32),
        "transposed": torch.arange(6).view(2, 3).t(),
        "one": torch.tensor(3),
        "none": torch.zeros(0),
        "weight": nn.Parameter(torch.ones(2)),
        "sparse": torch.eye(2).to_sparse(),
        "halves": torch.ones(2, dtype=torch.bfloat16),
        "object": Mutable([1]),
    }
    copied = Snapshots().take(state)
    assert repr(copied) == repr(state)
    assert copied["tied"][0].data_ptr() == copied["tied"][1].data_ptr() != shared.data_ptr()
    assert copied["transposed"].stride() == state["transposed"].stride()
    shared.zero_()
    state["object"].items.append(2)
    assert copied["tied"][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert copied["object"].items == [1]


class Mutable:
    """Something that a training may change."""

    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"Mutable({self.items})"
