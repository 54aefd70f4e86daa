"""A stop loses no step, wherever it comes: the next life begins behind the last one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.checkpoint.stores.store import Store
from runtime.errors import CheckpointError
from runtime.loop import cadence, stopping
from tests.runtime.loops import (
    Event,
    Life,
    Rows,
    Script,
    both,
    held_out,
    lived,
    mse,
    one_pass,
    prefetched,
    shuffled,
    steps,
    weights,
)
from tests.runtime.loops import _ahead as ahead
from tests.runtime.loops import _trained as trained

DIRECTORY = "ACCELERATEDJOB_CHECKPOINT_DIR"
EVERY = "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that the termination messages have named; nothing is saved but by a stop."""
    said: list[int] = []
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "storage"))
    monkeypatch.setenv(EVERY, "1000")
    monkeypatch.setattr(stopping, "leave_soon", lambda _: None)
    monkeypatch.setattr(stopping, "write_stopped", lambda _, step: said.append(step))
    return said


def asked(life: Life) -> None:
    """Ask for a stop, as a signal does."""
    life.accelerators[-1]._loop._control.notice(1e12, "a test")


def stopped(script: Script, at: int) -> list[Event]:
    """A life that is asked to stop behind a note, and has stopped."""
    life = Life()
    note = life.note

    def noted(kind: str, *values: Any) -> None:
        note(kind, *values)
        if len(life.notes) == at:
            asked(life)

    life.note = noted  # type: ignore[method-assign]
    try:
        with pytest.raises(stopping.Stopped):
            script(life)
    finally:
        life.end()
    return life.notes


def undisturbed(script: Script, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    with monkeypatch.context() as without:
        without.delenv(DIRECTORY)
        return lived(script)


def evaluated(life: Life) -> None:
    """Two epochs of a pass and an evaluation, each of whose batches is noted."""
    accelerator = life.accelerator()
    model, optimizer, loader, other = accelerator.prepare(*trained(), shuffled(), held_out())
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)
        model.eval()
        for batch in other:
            life.note("evaluation", mse(model, batch).item())
        model.train()
    weights(life, model)


def zipped_ahead(life: Life) -> None:
    """Two loaders at once, of whose batches the script holds two before it trains on them."""
    accelerator = life.accelerator()
    model, optimizer, b, a = accelerator.prepare(*trained(), shuffled(Rows(40)), shuffled(Rows(30)))
    for _ in accelerator.epochs(2):
        for one, two in ahead(zip(a, b, strict=False), 2):
            one_pass(life, accelerator, model, optimizer, [both(one, two)])
    weights(life, model)


def with_an_empty_epoch(life: Life, within: Callable[[], None] = lambda: None) -> None:
    """An epoch without steps between two others."""
    accelerator = life.accelerator()
    model, optimizer, loader = accelerator.prepare(*trained(), shuffled())
    for epoch in accelerator.epochs(3):
        if epoch == 1:
            within()
            life.note("nothing")
        else:
            one_pass(life, accelerator, model, optimizer, loader)
    weights(life, model)


SCRIPTS: dict[str, Script] = {
    "evaluations": evaluated,
    "a prefetcher": prefetched,
    "a zip through a prefetcher": zipped_ahead,
    "an epoch without steps": with_an_empty_epoch,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_step_is_executed_twice(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to stop behind each note; what is noted twice is not a step."""
    script = SCRIPTS[name]
    whole = undisturbed(script, monkeypatch)
    for at in range(2, len(whole) - 3, 5):
        monkeypatch.setenv(DIRECTORY, str(tmp_path / str(at)))
        try:
            before = stopped(script, at)
        except pytest.fail.Exception:  # it was at its end before it could stop
            continue
        after = lived(script)
        assert before == whole[: len(before)]
        assert steps(before) + steps(after) == steps(whole)
        assert after[-1] == whole[-1]


@pytest.mark.parametrize("at", [6, 7], ids=["behind the last step", "within the evaluation"])
def test_an_evaluation_is_neither_left_nor_left_out(at: int) -> None:
    kinds = [one[0] for one in stopped(evaluated, at)]
    assert kinds == [*["step"] * 6, *["evaluation"] * 3]


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let a checkpoint fail some times."""
    publish, left = Store.publish, [times]

    def failed(store: Store, folder: Path, given: int) -> None:
        if given >= number and left[0]:
            left[0] -= 1
            raise CheckpointError("the disk is full")
        publish(store, folder, given)

    monkeypatch.setattr(Store, "publish", failed)


def test_if_the_checkpoint_that_is_under_way_fails_another_one_is_written(
    monkeypatch: pytest.MonkeyPatch, told: list[int]
) -> None:
    monkeypatch.setenv(EVERY, "6")
    failing(monkeypatch, 6, times=1)
    assert steps(stopped(with_an_empty_epoch, 7)) == [1, 2, 3, 4, 5, 6]
    assert told == [6]
    assert steps(lived(with_an_empty_epoch)) == [7, 8, 9, 10, 11, 12]


def test_if_the_last_checkpoint_fails_the_step_before_is_told(
    monkeypatch: pytest.MonkeyPatch, told: list[int]
) -> None:
    monkeypatch.setenv(EVERY, "4")
    failing(monkeypatch, 5, times=9)
    stopped(with_an_empty_epoch, 5)
    assert told == [4]


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has each step."""
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR", str(tmp_path / "memory"))
    monkeypatch.setattr(cadence, "SHORTEST", 0.0)
    monkeypatch.setattr(cadence, "SHARE", float("inf"))
    note = Life.note

    def noted(life: Life, kind: str, *values: Any) -> None:
        life.end_of_write()
        note(life, kind, *values)

    monkeypatch.setattr(Life, "note", noted)


@pytest.mark.usefixtures("memory")
def test_a_life_that_goes_on_from_memory_may_be_stopped_at_once(
    monkeypatch: pytest.MonkeyPatch, told: list[int]
) -> None:
    def at_once(life: Life) -> None:
        accelerator = life.accelerator()
        model, optimizer, loader = accelerator.prepare(*trained(), shuffled())
        epochs = accelerator.epochs(3)
        if is_asked:
            asked(life)
        for _ in epochs:
            one_pass(life, accelerator, model, optimizer, loader)
        weights(life, model)

    is_asked = False
    whole = undisturbed(at_once, monkeypatch)
    monkeypatch.setenv(EVERY, "1000")
    assert lived(at_once, 4) == whole[:4]
    is_asked = True
    with pytest.raises(stopping.Stopped):
        lived(at_once)
    (step,) = told
    is_asked = False
    assert lived(at_once) == whole[step:]
