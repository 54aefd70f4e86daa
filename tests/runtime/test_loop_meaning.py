"""What the loop does in scripts that leave it, nest it, try again, or load by themselves."""

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.utils import find_executable_batch_size
from tests.runtime.loops import Life, Rows, lived, mse, one_pass, shuffled, steps

STEPS = 6  # in an epoch


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_DIR", str(tmp_path / "automatic"))
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS", "1")
    return tmp_path


def saved(folder: Path) -> list[int]:
    """The steps of the automatic checkpoints."""
    return [manifest.number(one) for one in manifest.checkpoints_in(folder / "automatic")]


def begun(life: Life, **options: Any) -> tuple[Accelerator, Any, Any, Any]:
    accelerator = life.accelerator(**options)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return accelerator, *accelerator.prepare(model, optimizer, shuffled(Rows(24)))


def simple(life: Life, total: int = 2) -> None:
    accelerator, model, optimizer, loader = begun(life)
    for _ in accelerator.epochs(total):
        one_pass(life, accelerator, model, optimizer, loader)


def test_a_finished_training_has_nothing_to_do_and_more_epochs_go_on() -> None:
    lived(simple)
    assert steps(lived(simple)) == []
    assert steps(lived(lambda life: simple(life, 3))) == [*range(13, 19)]


def test_without_a_directory_epochs_is_range(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("ACCELERATEDJOB_CHECKPOINT_DIR")
    lived(simple)
    assert steps(lived(simple)) == [*range(1, 13)]
    assert list(folder.iterdir()) == []


def test_a_progress_bar_over_epochs_knows_how_many_are_left() -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        epochs = accelerator.epochs(3)
        life.note("left", len(epochs))
        for _ in epochs:
            one_pass(life, accelerator, model, optimizer, loader)

    assert lived(script, 10)[0] == ("left", 3)
    assert lived(script)[0] == ("left", 2)


def test_nested_epochs_are_an_error() -> None:
    def script(life: Life) -> None:
        accelerator, *_ = begun(life)
        for _ in accelerator.epochs(2):
            for _ in accelerator.epochs(2):
                pass

    with pytest.raises(RuntimeError, match=r"must not be nested.*use range"):
        lived(script)


def test_epochs_within_a_pass_is_an_error() -> None:
    def script(life: Life) -> None:
        accelerator, _, _, loader = begun(life)
        for _ in loader:
            accelerator.epochs(2)

    with pytest.raises(RuntimeError, match="before the iteration of a data loader begins"):
        lived(script)


def left_early(life: Life) -> None:
    """Epochs are left by a break; another call follows."""
    accelerator, model, optimizer, loader = begun(life)
    for epoch in accelerator.epochs(9):
        one_pass(life, accelerator, model, optimizer, loader)
        if epoch == 1:
            break
    for _ in accelerator.epochs(1):
        one_pass(life, accelerator, model, optimizer, loader)


@pytest.mark.parametrize("notes", [3, 9, 12, 13, 15])
def test_epochs_may_be_left_by_a_break(notes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.delenv("ACCELERATEDJOB_CHECKPOINT_DIR")
        whole = lived(left_early)
    first = lived(left_early, notes)
    rest = lived(left_early)
    assert rest == whole[-len(rest) :]
    assert len(first) + len(rest) in (len(whole) + 1, len(whole) + 2)


def tried_again(life: Life) -> None:
    """The first try runs out of memory in its second epoch."""
    accelerator = life.accelerator()
    tries: list[int] = []

    @find_executable_batch_size(starting_batch_size=8)  # type: ignore[untyped-decorator]
    def train(batch_size: int) -> None:
        accelerator.free_memory()
        tries.append(batch_size)
        torch.manual_seed(5)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data: Any = torch.utils.data.DataLoader(Rows(24), batch_size=batch_size)
        model, optimizer, loader = accelerator.prepare(model, optimizer, data)
        for epoch in accelerator.epochs(3):
            for i, batch in enumerate(loader, loader.first_batch):
                if batch_size == 8 and (epoch, i) == (1, 2):
                    message = "CUDA out of memory."
                    raise RuntimeError(message)
                one_pass(life, accelerator, model, optimizer, [batch])

    train()
    life.note("tries", *tries)


def test_another_try_goes_on_with_the_samples_behind_the_newest_checkpoint() -> None:
    notes = lived(tried_again)
    rows = [round(x * 24) for one in notes if one[0] == "step" for x in one[3][0]]
    assert notes[-1] == ("tries", 8, 7)
    assert rows[:40] == [*range(24), *range(16)]
    assert steps(notes)[:7] == [*range(1, 8)]


def test_another_accelerator_cannot_use_the_same_checkpoints() -> None:
    def script(life: Life) -> None:
        simple(life)
        simple(life)

    with pytest.raises(RuntimeError, match="belong to one Accelerator"):
        lived(script)


def test_a_second_accelerator_beside_the_first_changes_nothing() -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        Accelerator(cpu=True)
        for _ in accelerator.epochs(2):
            one_pass(life, accelerator, model, optimizer, loader)

    lived(script, 4)
    assert steps(lived(script)) == [*range(4, 13)]


def test_load_state_where_the_loop_resumes_is_an_error(folder: Path) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        for epoch in accelerator.epochs(2):
            if epoch == 1:
                accelerator.load_state(folder / "own")
            one_pass(life, accelerator, model, optimizer, loader)
            accelerator.save_state(folder / "own")

    lived(script, 8)
    with pytest.raises(RuntimeError, match="load_state must not be called where epochs"):
        lived(script)


def test_load_state_before_and_behind_the_loop_is_allowed(folder: Path) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        if (folder / "best").exists():
            accelerator.load_state(folder / "best")
        for epoch in accelerator.epochs(2):
            one_pass(life, accelerator, model, optimizer, loader)
            if not epoch:
                accelerator.save_state(folder / "best")
                life.note("best", model.weight.item())
        life.note("last", model.weight.item())
        accelerator.load_state(folder / "best")
        life.note("best", model.weight.item())

    whole = lived(script)
    lived(lambda life: simple(life, 1))  # another training does not matter
    assert lived(script) == whole[-2:]
    assert whole[-1] == whole[6]


def test_a_loader_that_is_left_or_closed_saves_nothing(folder: Path) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        for _ in accelerator.epochs(1):
            for batch in loader:
                one_pass(life, accelerator, model, optimizer, [batch])
                break
            life.note("left", saved(folder))
            batches = iter(loader)
            one_pass(life, accelerator, model, optimizer, [next(batches)])
            batches.close()
            life.note("closed", saved(folder))

    notes = lived(script)
    assert [one[1] for one in notes if one[0] != "step"] == [[], []]


def in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_loader_of_another_thread_neither_saves_nor_hides_that_of_the_main_thread(
    folder: Path,
) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        other = accelerator.prepare(shuffled())
        in_thread(lambda: one_pass(life, accelerator, model, optimizer, loader))
        life.note("thread", saved(folder))
        for _ in accelerator.epochs(1):
            in_thread(lambda: one_pass(life, accelerator, model, optimizer, loader))
            life.note("thread", saved(folder))
            reading: list[Iterator[Any]] = []
            in_thread(functools.partial(_begin, other, reading))
            one_pass(life, accelerator, model, optimizer, loader)
            accelerator.wait_for_checkpoint()
            life.note("main", len(saved(folder)))

    notes = [one for one in lived(script) if one[0] != "step"]
    assert notes == [("thread", []), ("thread", []), ("main", 0)]


def _begin(loader: Any, reading: list[Iterator[Any]]) -> None:
    reading.append(iter(loader))
    next(reading[0])


def test_the_loss_of_an_epoch_without_steps_is_no_error() -> None:
    def script(life: Life) -> None:
        accelerator, model, _, loader = begun(life)
        for _ in accelerator.epochs(2):
            life.note("loss", *[mse(model, batch).item() for batch in loader])

    assert len(lived(script)) == 2


def test_a_script_that_reads_ahead_of_a_stream_is_saved_between_epochs(folder: Path) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, _ = begun(life)
        stream = accelerator.prepare(torch.utils.data.DataLoader(Numbers(), batch_size=2))
        for _ in accelerator.epochs(2):
            held: list[Any] = []
            for batch in stream:
                held.append(batch)
                if len(held) > 1:
                    one_pass(life, accelerator, model, optimizer, [held.pop(0)])
                    accelerator.wait_for_checkpoint()
                    life.note("saved", saved(folder))
            one_pass(life, accelerator, model, optimizer, held)

    notes = [one[1] for one in lived(script) if one[0] == "saved"]
    assert notes == [[], [], [3], [3]]


class Numbers(torch.utils.data.IterableDataset[Any]):
    """Six rows."""

    def __iter__(self) -> Iterator[Any]:
        return (Rows(6)[index] for index in range(6))


def nested(life: Life) -> None:
    accelerator, model, optimizer, loader = begun(life)
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)
        for _ in accelerator.epochs(2):
            pass


def test_nested_epochs_are_an_error_in_each_life() -> None:
    """The second one must not believe that the outer epochs were left."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match="must not be nested"):
            lived(nested)


def test_variables_without_a_directory_are_said_to_be_useless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ACCELERATEDJOB_CHECKPOINT_DIR")
    lived(simple)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no checkpoints are written: ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS needs" in line


@pytest.mark.parametrize("kept", ["prepared", "registered", "neither"])
def test_a_scheduler_that_is_in_no_checkpoint_is_said_to_begin_anew(
    kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        scheduler: Any = torch.optim.lr_scheduler.StepLR(optimizer, 3)
        if kept == "prepared":
            scheduler = accelerator.prepare(scheduler)
        if kept == "registered":
            accelerator.register_for_checkpointing(scheduler)
        for _ in accelerator.epochs(1):
            one_pass(life, accelerator, model, optimizer, loader)

    lived(script)
    assert ("scheduler begins anew" in capsys.readouterr().err) == (kept == "neither")


@pytest.mark.parametrize(
    ("model", "kind", "problem"),
    [(2, torch.optim.SGD, "size mismatch"), (1, torch.optim.AdamW, "has no .*betas")],
)
def test_a_checkpoint_of_another_model_or_optimizer_is_an_error_that_says_what_to_do(
    model: int, kind: type[torch.optim.Optimizer], problem: str
) -> None:
    def script(life: Life) -> None:
        accelerator = life.accelerator()
        net = nn.Linear(1, model)
        optimizer = kind(net.parameters(), lr=0.1)  # type: ignore[call-arg]  # each kind has one
        _, _, loader = accelerator.prepare(net, optimizer, shuffled(Rows(24)))
        for _ in accelerator.epochs(3):
            list(loader)

    lived(simple)
    with pytest.raises((RuntimeError, ValueError), match=problem) as caught:
        lived(script)
    assert "set ACCELERATEDJOB_CHECKPOINT_DIR to another" in caught.value.__notes__[0]


def test_epochs_that_an_earlier_call_had_left_are_said_to_be_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def script(life: Life) -> None:
        accelerator, model, optimizer, loader = begun(life)
        for _ in accelerator.epochs(0):
            pass
        for _ in accelerator.epochs(3):
            one_pass(life, accelerator, model, optimizer, loader)
            break
        for _ in accelerator.epochs(1):
            one_pass(life, accelerator, model, optimizer, loader)

    lived(script)
    capsys.readouterr()
    assert steps(lived(script)) == []
    said = capsys.readouterr().err
    assert "no undamaged checkpoint of call 0 of epochs()\n" in said
    assert "call 1 of epochs() was left in epoch 0 of 3, and is not continued" in said
