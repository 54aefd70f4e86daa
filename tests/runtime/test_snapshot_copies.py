"""A checkpoint that is copied beside the next step has the state of its boundary, bit for bit.

On a CPU, a fake accelerator computes at once what it is given, and copies when the contract of
`Lane` lets it, and no earlier or later: that finds a hold that is missing. On a GPU the copies are
slow.
"""

import copy
import gc
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runtime import Accelerator
from runtime.checkpoint.checkpointer import Additions, Target
from runtime.checkpoint.copies import Copies
from runtime.checkpoint.formats import Part
from runtime.checkpoint.lanes import DeviceLane, Mark, Pair
from runtime.checkpoint.snapshot import Snapshots
from runtime.config.plugins import ProjectConfiguration
from runtime.errors import CheckpointError
from tests.devices import CPU_AND_GPU, NEEDS_GPU
from tests.states import fresh

CYCLES = 2 * 10**8  # for which a slow copy waits: 0.1 s


class FakeLane:
    """A lane of a device that computes at once, and copies at the first or at the last moment."""

    def __init__(self, *, is_late: bool) -> None:
        self._is_late = is_late
        self.beside = 0  # bytes that were copied beside the computation
        self._last = FakeEnd(())

    def empty(self, bytes_: int) -> torch.Tensor:
        return torch.empty(bytes_, dtype=torch.uint8)

    def copy(self, first: Sequence[Pair], beside: Sequence[Pair]) -> Mark:
        self.beside += sum(source.nbytes for _, source in beside)
        copied(first)
        self._last = FakeEnd(beside)
        if not self._is_late:
            self.finish()
        return self._last

    def finish(self) -> None:
        self._last.hold()


class FakeEnd:
    """The end of some copies of the fake lane."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._is_done = threading.Event()

    def hold(self) -> None:
        """Copy now: the device computes at once what it is given later."""
        pairs, self._pairs = self._pairs, ()
        copied(pairs)
        self._is_done.set()

    def wait(self) -> None:
        assert self._is_done.wait(60)


class SlowLane(DeviceLane):
    """A real lane whose copies beside the computation begin late."""

    beside = 0

    def copy(self, first: Sequence[Pair], beside: Sequence[Pair]) -> Mark:
        self.beside += sum(source.nbytes for _, source in beside)
        with torch.cuda.stream(self._stream):
            torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch has not typed it
        return super().copy(first, beside)

    def finish(self) -> None:
        """It finishes by itself."""


def copied(pairs: Sequence[Pair]) -> None:
    for target, source in pairs:
        target.copy_(source)


class Average:
    """An average of the weights, which the script updates behind each step."""

    def __init__(self, model: nn.Module) -> None:
        self.average = [one.detach().clone() for one in model.parameters()]

    def update(self, model: nn.Module) -> None:
        torch._foreach_lerp_(self.average, [one.detach() for one in model.parameters()], 0.5)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for own, one in zip(self.average, state["average"], strict=True):
            own.copy_(one)


class Training:
    """A training with all that a checkpoint has: weights, buffers, moments and an average."""

    def __init__(self, folder: Path, device: str, lane: Any, *, width: int = 8) -> None:
        fresh()
        torch.manual_seed(0)
        project = ProjectConfiguration(str(folder), durable=False)
        self.accelerator = Accelerator(cpu=device == "cpu", project_config=project)
        self.lane = lane
        checkpointer = self.checkpointer = self.accelerator._checkpointer
        checkpointer._snapshots = Snapshots(lambda at: lane if at.type == device else None)
        model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.bare = model.to(self.accelerator.device)
        self.weight = next(model.parameters())
        self.model, self.optimizer = self.accelerator.prepare(
            model, torch.optim.AdamW(model.parameters(), lr=0.1)
        )
        self.average = Average(self.bare)
        self.accelerator.register_for_checkpointing(self.average)
        self.folder = folder

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.accelerator.backward(self.loss())
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update(self.bare)

    def loss(self) -> torch.Tensor:
        inputs = torch.randn(6, 4, device=self.accelerator.device)
        loss: torch.Tensor = self.model(inputs).square().mean()
        return loss

    def state(self) -> Any:
        """Return the whole state; waits for the device."""
        states: list[Any] = [self.bare, self.optimizer, self.average]
        return [on_cpu(one.state_dict()) for one in states]

    def save(self, name: str, *, goes_on: bool = True) -> None:
        target, more = (
            Target(folder=self.folder / name, is_durable=False),
            Additions(goes_on=goes_on),
        )
        self.lane.finish()
        self.checkpointer.write(target, then=lambda: None, scaler=None, more=more)

    def parts(self) -> list[Part]:
        return self.checkpointer._collected(self.folder, None, safe_serialization=True)

    def wait(self) -> None:
        self.lane.finish()
        self.checkpointer.wait()

    def load(self, name: str) -> Any:
        """Return the state that a checkpoint has."""
        self.checkpointer.load_from(self.folder / name, scaler=None)
        return self.state()


def on_cpu(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, dict):
        return {name: on_cpu(one) for name, one in state.items()}
    return [on_cpu(one) for one in state] if isinstance(state, list | tuple) else state


def lane_for(device: str, *, is_late: bool = True) -> Any:
    return FakeLane(is_late=is_late) if device == "cpu" else SlowLane(torch.device(device, 0))


def are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("device", CPU_AND_GPU)
@settings(max_examples=15)
@given(
    rounds=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2)), min_size=1, max_size=3),
    is_late=st.booleans(),
    goes_on=st.booleans(),
)
def test_a_checkpoint_has_the_state_of_its_boundary_though_the_training_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
    rounds: list[tuple[int, int]],
    *,
    is_late: bool,
    goes_on: bool,
) -> None:
    training = Training(tmp_path_factory.mktemp("it"), device, lane_for(device, is_late=is_late))
    expected = []
    for number, (before, behind) in enumerate(rounds):
        training.step(before)
        expected.append(training.state())
        training.save(str(number), goes_on=goes_on)
        training.loss()  # changes the buffers, and no more
        training.step(behind)
    training.wait()
    assert (training.lane.beside > 0) == goes_on
    for number, state in enumerate(expected):
        assert are_equal(training.load(str(number)), state)


@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_weights_and_moments_are_copied_beside_the_next_step_and_all_else_before(
    tmp_path: Path, device: str
) -> None:
    training = Training(tmp_path, device, lane_for(device))
    training.step()
    training.save("it")
    weights = sum(one.nbytes for one in training.bare.parameters())
    moments = sum(
        one.nbytes
        for state in training.optimizer.state.values()
        for one in state.values()
        if one.device.type == device  # AdamW counts its steps on the CPU
    )
    training.wait()
    assert training.lane.beside == weights + moments


def changes_a_weight(training: Training) -> None:
    with torch.no_grad():
        training.weight.add_(1)


def changes_a_moment(training: Training) -> None:
    training.optimizer.state[training.weight]["exp_avg"].add_(1)


def steps_with_another_optimizer(training: Training) -> None:
    training.loss().backward()  # type: ignore[no-untyped-call]  # torch has not typed it
    torch.optim.SGD(training.bare.parameters()).step()


def tells_of_a_step(training: Training) -> None:
    training.accelerator.step_done()


@pytest.mark.parametrize("device", CPU_AND_GPU)
@pytest.mark.parametrize(
    "changes",
    [changes_a_weight, changes_a_moment, steps_with_another_optimizer, tells_of_a_step],
)
def test_a_change_that_nothing_holds_spoils_one_checkpoint_and_no_more(
    tmp_path: Path, device: str, changes: Callable[[Training], None]
) -> None:
    training = Training(tmp_path, device, lane_for(device))
    training.step()
    # Without a writer, which may look before the change.
    _, copies = training.checkpointer._copied(training.parts(), goes_on=True)
    changes(training)
    training.lane.finish()
    with pytest.raises(CheckpointError, match=r"must not change, but (a tensor|step_done)"):
        copies.wait()
    before = training.lane.beside
    expected = training.state()
    training.save("next")
    changes(training)
    training.wait()
    assert training.lane.beside == before  # all was copied before the training went on
    assert are_equal(training.load("next"), expected)


@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_a_change_behind_the_next_step_is_none_of_a_checkpoints(
    tmp_path: Path, device: str
) -> None:
    training = Training(tmp_path, device, lane_for(device))
    training.step()
    expected = training.state()
    training.save("it")
    training.step()
    changes_a_weight(training)
    training.wait()
    assert are_equal(training.load("it"), expected)


def test_copies_that_are_under_way_are_none_of_a_pickles() -> None:
    copies = Copies([], [torch.ones(1)])
    copies.spoil("it has")
    pickle.loads(pickle.dumps(copies)).wait()  # noqa: S301  # our own
    assert copy.deepcopy(Snapshots()).copies.are_sound


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
def test_memory_that_a_script_gives_up_is_not_used_while_it_is_copied(
    tmp_path: Path, device: str
) -> None:
    training = Training(tmp_path, device, lane_for(device), width=2**20)
    training.step()
    expected = training.state()
    training.save("it")
    for parameter, state in training.optimizer.state.items():
        state["exp_avg"] = torch.zeros_like(state["exp_avg"])
        parameter.data = parameter.data.clone()
    gc.collect()
    others = [torch.full((2**20,), 7.0, device=device) for _ in range(32)]
    training.wait()
    del others
    assert are_equal(training.load("it"), expected)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_snapshot_takes_no_memory_of_the_gpu_and_does_not_wait_for_it(
    tmp_path: Path, device: str
) -> None:
    training = Training(tmp_path, device, lane_for(device), width=2**20)
    training.step()
    training.save("first")  # pins the memory
    training.wait()
    training.step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    parts = training.parts()
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.checkpointer._copied(parts, goes_on=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    end = training.checkpointer._snapshots.copies._marks[0]
    assert not end._event.query()  # type: ignore[attr-defined]  # the copies are slow
    assert torch.cuda.max_memory_allocated() - before < 2**20
    training.step()
    training.lane.finish()
    training.checkpointer._snapshots.copies.wait()


@pytest.mark.skipif(torch.cuda.is_available(), reason="its memory can be pinned")
def test_a_lane_without_memory_that_can_be_pinned_copies_to_usual_memory() -> None:
    lane = DeviceLane(torch.device("cpu"))
    with pytest.warns(UserWarning, match="cannot be pinned .*: training waits while they are"):
        target = lane.empty(4)
    assert target.shape == (4,)
    assert not target.is_pinned()
