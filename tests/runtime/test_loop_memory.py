"""Automatic checkpoints in memory: what is resumed from them, and what never is."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.checkpoint.stores.store import Store
from runtime.control.progress.snapshot import Tier
from runtime.errors import CheckpointError
from runtime.loop import cadence, room
from runtime.loop.checkpoints import Why
from runtime.loop.lineage import Entry, Origin, Remembered, kept, random_name, remembered
from runtime.loop.room import Room
from runtime.loop.state import LoopState
from runtime.loop.upload import Upload
from tests.runtime.loops import Life, lived, one_pass, shuffled, steps, weights

DIRECTORY = "ACCELERATEDJOB_CHECKPOINT_DIR"
MEMORY = "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"
EVERY = "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"
GIB = 2**30


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage has each fifth step, memory each step."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "storage"))
    monkeypatch.setenv(MEMORY, str(tmp_path / "memory"))
    monkeypatch.setenv(EVERY, "5")
    monkeypatch.setattr(cadence, "SHORTEST", 0.0)
    monkeypatch.setattr(cadence, "SHARE", float("inf"))
    note = Life.note

    def noted(life: Life, kind: str, *values: Any) -> None:
        ended(life)
        note(life, kind, *values)

    monkeypatch.setattr(Life, "note", noted)


def ended(life: Life) -> None:
    """Wait until all that is being written is."""
    life.end_of_write()
    for accelerator in life.accelerators:
        checkpoints = accelerator._loop._checkpoints
        if checkpoints is not None and (thread := checkpoints._upload._thread) is not None:
            thread.join()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """The parent of the directory of each training."""
    return tmp_path / "memory"


def script(life: Life) -> None:
    """Three epochs of six steps; notes each step, and the weights."""
    accelerator = life.accelerator()
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model, optimizer, loader = accelerator.prepare(model, optimizer, shuffled())
    for _ in accelerator.epochs(3):
        one_pass(life, accelerator, model, optimizer, loader)
    weights(life, model)


def numbers(parent: Path) -> list[int]:
    """The undamaged checkpoints of all trainings in a directory."""
    found = [one for one in parent.glob("**/checkpoint_*") if manifest.damage(one) is None]
    return sorted(map(manifest.number, found))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an undisturbed training notes."""
    with monkeypatch.context() as without:
        without.delenv(DIRECTORY)
        return lived(script)


def test_a_training_goes_on_from_memory_with_the_same_bits(
    whole: list[Any], memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lived(script, 9) == whole[:9]
    assert numbers(memory.with_name("storage")) == [5]
    assert numbers(memory) == [7, 8]
    assert lived(script, 4) == whole[8:12]
    assert "checkpoint_8 (memory): step 8, epoch 1" in said(capsys)
    assert lived(script) == whole[11:]
    assert numbers(memory.with_name("storage")) == [15, 18]


def test_if_memory_is_lost_the_training_goes_on_from_storage(
    whole: list[Any], memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lived(script, 9)
    shutil.rmtree(memory)
    assert lived(script) == whole[5:]
    assert "storage/checkpoint_5: step 5, epoch 0" in said(capsys)


def test_memory_never_has_more_than_two_checkpoints(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    publish = Store.publish

    def counted(store: Store, folder: Path, number: int) -> None:
        publish(store, folder, number)
        counts.append(len(list(memory.glob("*/checkpoint_*"))))

    monkeypatch.setattr(Store, "publish", counted)
    life = Life()
    note = life.note

    def noted(kind: str, *values: Any) -> None:
        counts.append(len(list(memory.glob("*/checkpoint_*"))))
        note(kind, *values)

    life.note = noted  # type: ignore[method-assign]
    script(life)
    life.end()
    assert max(counts) == 2


def test_a_training_that_went_on_from_storage_is_not_thrown_back_to_memory(
    memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lived(script, 9)
    with monkeypatch.context() as without:
        without.delenv(MEMORY)  # as on a machine without it
        without.setenv(EVERY, "1")
        assert steps(lived(script, 2)) == [6, 7]
    said(capsys)
    assert numbers(memory) == [7, 8]
    assert steps(lived(script, 1)) == [7]
    assert "step 8 in memory (stale" in said(capsys)


def test_if_storage_was_emptied_the_training_begins_anew(memory: Path) -> None:
    lived(script, 9)
    shutil.rmtree(memory.with_name("storage"))
    assert steps(lived(script, 1)) == [1]
    assert numbers(memory) == []


def test_a_checkpoint_of_another_job_is_not_seen(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATEDJOB_UID", "one")
    lived(script, 9)
    monkeypatch.setenv("ACCELERATEDJOB_UID", "two")
    assert steps(lived(script, 1)) == [6]
    assert numbers(memory / "one") == [7, 8]


def test_what_another_version_has_left_in_memory_is_not_taken(memory: Path) -> None:
    lived(script, 9)
    (newest,) = memory.glob("*/checkpoint_8")
    facts = manifest.read(newest)
    assert facts is not None
    del facts["loop"]["samples"]
    (newest / manifest.MANIFEST).write_bytes(manifest.text(facts))
    assert steps(lived(script, 1)) == [8]


def test_a_damaged_checkpoint_in_memory_is_not_taken(memory: Path) -> None:
    lived(script, 9)
    (newest,) = memory.glob("*/checkpoint_8")
    with next(newest.glob("*.safetensors")).open("r+b") as file:
        file.write(b"??")
    assert steps(lived(script, 1)) == [8]


def test_a_stop_is_saved_on_storage_though_memory_has_the_step(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.loop.stopping.leave_soon", lambda _: None)

    def stopped(life: Life) -> None:
        """Is asked to stop in an epoch without steps, so that memory has the step behind it."""
        accelerator = life.accelerator()
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        model, optimizer, loader = accelerator.prepare(model, optimizer, shuffled())
        for epoch in accelerator.epochs(3):
            if epoch == 1:
                ended(life)
                accelerator._loop._control.notice(1e12, "a test")
            else:
                one_pass(life, accelerator, model, optimizer, loader)

    with pytest.raises(SystemExit):
        lived(stopped)
    assert numbers(memory)[-1] == 6
    assert numbers(memory.with_name("storage")) == [5, 6]


NO_ROOM = {
    "its file system": Room(files=100, memory=GIB),
    "the container": Room(files=GIB, memory=100),
}


@pytest.mark.parametrize("where", NO_ROOM)
def test_if_there_is_no_room_one_line_says_so_and_storage_is_used(
    where: str,
    memory: Path,
    whole: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(room.Room, "of", classmethod(lambda _, __: NO_ROOM[where]))
    said(capsys)
    assert lived(script) == whole
    _, line = said(capsys).splitlines()
    assert f"no more checkpoints are kept in memory: {where} must have" in line
    assert numbers(memory) == []
    assert numbers(memory.with_name("storage")) == [15, 18]


@pytest.mark.parametrize(
    ("is_file", "sentence"),
    [
        pytest.param(True, "[Errno 20] Not a directory", id="it is a file now"),
        pytest.param(False, "[Errno 2] No such file or directory", id="it was removed"),
    ],
)
def test_if_memory_cannot_be_used_any_more_storage_is_used(
    is_file: bool,
    sentence: str,
    memory: Path,
    whole: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def blocked(life: Life) -> None:
        note = life.note

        def noted(kind: str, *values: Any) -> None:
            if len(life.notes) == 7:
                ended(life)
                (inner,) = memory.iterdir()
                shutil.rmtree(inner)
                if is_file:
                    inner.write_text("a file")
            note(kind, *values)

        life.note = noted  # type: ignore[method-assign]
        script(life)

    said(capsys)
    assert lived(blocked) == whole
    assert f"no more checkpoints are kept in memory: {sentence}" in said(capsys)
    assert numbers(memory.with_name("storage")) == [15, 18]


def test_both_places_are_told_with_their_step(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, Tier]] = []

    def watched(life: Life) -> None:
        from runtime.loop.control import Alone  # noqa: PLC0415

        monkeypatch.setattr(
            Alone, "checkpointed", lambda _, step, __, tier: told.append((step, tier))
        )
        script(life)

    lived(watched)
    assert [step for step, tier in told if tier is Tier.STORAGE] == [5, 10, 15, 18]
    assert [step for step, tier in told if tier is Tier.MEMORY] == [*range(1, 19)]


class Ending(Upload):
    """An upload that ends between the first and the second look whether it has."""

    looks = 0
    is_heard = False  # whether it has failed

    @property
    def is_idle(self) -> bool:
        self.looks += 1
        return self.looks > 1

    def wait(self) -> None:
        self.is_heard = True


def test_nothing_is_published_before_it_is_known_whether_the_upload_before_has_failed() -> None:
    life = Life()
    checkpoints = life.accelerator()._loop._checkpoints
    assert checkpoints is not None
    checkpoints.find()
    upload = checkpoints._upload = Ending()
    plans = []
    for step in (5, 10):
        plans.append(checkpoints._plan(step, Why.STEP, uses_memory=True))
        assert upload.is_heard or plans[-1].storage is None
    assert plans[-1].storage is not None
    life.end()


# ---- Which checkpoint may be resumed


def entry(step: int, life: str, base: Entry | None = None, **state: Any) -> Entry:
    over = None if base is None or base.origin is None else base.origin.save
    origin = Origin(save=random_name(), life=life, base=over)
    return Entry(number=step, state=LoopState(step=step, begun=1, epochs=9, **state), origin=origin)


FIRST, SECOND, THIRD = (random_name() for _ in range(3))
START = entry(10, FIRST)
LATER = entry(20, SECOND, START)
END = replace(entry(10, FIRST), state=LoopState(step=10, epoch=9, epochs=9))
CASES: dict[str, tuple[list[list[Entry]], list[Entry], int | None]] = {
    "none is there": ([[], []], [START], None),
    "nothing is anywhere": ([[]], [], None),
    "of the same life": ([[entry(15, FIRST)]], [START], 15),
    "of a life that went on from storage": ([[entry(15, SECOND, START)]], [START], 15),
    "before the first on storage": ([[entry(5, FIRST)]], [], 5),
    "not newer than storage": ([[entry(10, FIRST)]], [START], None),
    "storage was emptied": ([[entry(15, SECOND, START)]], [], None),
    "storage was emptied, and one is older": (
        [[entry(5, FIRST), entry(15, FIRST, START)]],
        [],
        None,
    ),
    "another life has written to storage": ([[entry(25, FIRST, None)]], [START, LATER], None),
    "a third life does not know the second": ([[entry(25, THIRD, START)]], [START, LATER], None),
    "without an origin": ([[replace(START, origin=None, number=15)]], [], None),
    "storage without an origin": ([[entry(15, FIRST)]], [replace(START, origin=None)], None),
    "the earlier call has ended": ([[entry(15, FIRST, call=1)]], [END], 15),
    "the end of the earlier call is lost": ([[entry(15, FIRST, call=1)]], [START], None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_may_be_resumed(case: str) -> None:
    machines, stored, step = CASES[case]
    found = remembered(machines, stored)
    assert (found.entry and found.entry.state.step) == step
    newer = [one for one in machines[0] if not stored or one.place > stored[-1].place]
    assert bool(found.reason) == (bool(newer) and step is None)


def test_the_newest_one_that_all_machines_have_is_taken() -> None:
    old, new, other = entry(15, FIRST), entry(16, FIRST), entry(16, FIRST)
    assert remembered([[old, new], [old]], [START]) == Remembered(
        old, "step 16 in memory (not on all machines)"
    )
    assert remembered([[old, new], [old, other]], [START]).entry == old
    assert remembered([[old, new], [new]], [START]) == Remembered(new)
    assert remembered([[new], []], [START]).entry is None


machines = some.lists(some.sets(some.integers(0, 5)), min_size=1, max_size=3)


@given(machines, some.integers(0, 5))
def test_what_is_taken_is_newer_than_storage_and_on_all_machines(
    which: list[set[int]], stored: int
) -> None:
    pool = [entry(step, FIRST) for step in range(6)]
    on = [[pool[i] for i in sorted(one)] for one in which]
    common = {step for step in set.intersection(*which) if step > stored}
    found = remembered(on, [pool[stored]]).entry
    assert (None if found is None else found.state.step) == max(common, default=None)


@given(some.lists(some.integers(0, 2), min_size=1, max_size=8), some.integers(1, 4))
def test_the_newest_are_kept_and_the_last_of_each_call(calls: list[int], keep: int) -> None:
    entries = [Entry(number=i, state=LoopState(call=call)) for i, call in enumerate(sorted(calls))]
    found = kept(entries, keep)
    assert {one.number for one in entries[-keep:]} <= found
    assert {entries[one].state.call for one in found} == set(calls)
    assert len(found) <= keep + len(set(calls)) - 1


@pytest.mark.parametrize("change", [{"save": "x"}, {"life": None}, {"base": 3}, {"save": "A" * 32}])
def test_an_origin_that_no_save_has_written_is_none(change: dict[str, Any]) -> None:
    good = Origin(save=random_name(), life=FIRST, base=None).fact()
    assert Origin.of(good) is not None
    assert Origin.of(good | change) is None
    assert Origin.of([]) is None


# ---- Room


@pytest.mark.parametrize(
    ("room", "copies", "with_snapshot", "missing"),
    [
        (Room(files=440, memory=320), 2, True, None),
        (Room(files=439, memory=320), 2, True, "file system"),
        (Room(files=440, memory=319), 2, True, "container"),
        (Room(files=220, memory=110), 1, False, None),
        (Room(files=219, memory=110), 1, False, "file system"),
        (Room(files=220, memory=109), 1, False, "container"),
    ],
)
def test_there_is_room_for_the_copies_the_snapshot_and_the_workers(
    room: Room, copies: int, with_snapshot: bool, missing: str | None
) -> None:
    found = room.lack(100, copies, with_snapshot=with_snapshot)
    assert (missing in found) if missing and found else found == missing


def test_the_room_of_this_machine_is_known(tmp_path: Path) -> None:
    found = Room.of(tmp_path)
    assert found.files > 0
    assert found.memory > 0


def test_a_directory_in_memory_that_cannot_be_made_is_named_with_its_variable(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.with_name("file").touch()
    monkeypatch.setenv(MEMORY, str(memory.with_name("file")))
    with pytest.raises(CheckpointError, match=rf"must be a directory .*change or unset {MEMORY}"):
        lived(script)


def test_a_url_is_no_directory_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY, "memory://job")
    with pytest.raises(ValueError, match=rf"{MEMORY} must be a directory of this machine"):
        Accelerator(cpu=True)
