"""A training that resumes within an epoch with other data or batches is exact, or an error."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from runtime.errors import CheckpointError
from runtime.loop.reading import Reading
from tests.runtime.loops import BATCH, Event, Life, N, Rows, Script, Stream, lived, steps

DIRECTORY = "ACCELERATEDJOB_CHECKPOINT_DIR"
KILLED_BEHIND = 3  # steps; the last of them is not in a checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.setenv("ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS", "1")


def reads(n: int = N, batch: int = BATCH, **options: Any) -> Script:
    """A script that trains one epoch over a shuffled loader."""
    return over(lambda: DataLoader(Rows(n), batch_size=batch, **{"shuffle": True} | options))


def over(make: Any) -> Script:
    """The same over any loader."""

    def script(life: Life) -> None:
        accelerator = life.accelerator()
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer, loader = accelerator.prepare(model, optimizer, make())
        for _ in accelerator.epochs(1):
            for x, y in loader:
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                life.step(accelerator, loss, x)

    return script


def custom(n: int, batch: int) -> DataLoader[Any]:
    """A loader whose batches are drawn by another kind of batch sampler."""

    class Own(BatchSampler):
        pass

    return DataLoader(Rows(n), batch_sampler=Own(RandomSampler(Rows(n)), batch, drop_last=False))


def samples(notes: list[Event]) -> list[float]:
    return [round(x, 6) for one in notes for x in one[3][0]]


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        pytest.param(
            reads(),
            reads(N + 2),
            "data loader 0 must read a dataset of 22 samples, got 24: .*another directory",
            id="a longer dataset in a random order",
        ),
        pytest.param(reads(), reads(N - 2), "dataset of 22 samples, got 20", id="a shorter one"),
        pytest.param(
            reads(shuffle=False),
            reads(7, shuffle=False),
            "dataset of 22 samples, got 7",
            id="one that ends before the position",
        ),
        pytest.param(
            over(lambda: custom(N, 4)),
            over(lambda: custom(N, 3)),
            "must have a global batch of 4 samples, got 3: .* and 8 samples are none",
            id="batches of another size that can only be counted",
        ),
    ],
)
def test_a_position_that_cannot_be_exact_is_an_error(
    before: Script, now: Script, sentence: str
) -> None:
    lived(before, KILLED_BEHIND)
    with pytest.raises(CheckpointError, match=sentence):
        lived(now)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_with_batches_of_another_size_each_sample_is_read_once_and_that_is_said(
    batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also the batch that was read ahead, which had the old size."""
    first = lived(reads(), KILLED_BEHIND)[: KILLED_BEHIND - 1]
    capsys.readouterr()
    rest = lived(reads(batch=batch))
    read = samples(first) + samples(rest)
    assert sorted(read) == sorted(round(i / N, 6) for i in range(N))
    said = f"goes on with other batches: samples of the global batch {BATCH} before and {batch} now"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        pytest.param(reads(), reads(), "", id="nothing is another"),
        pytest.param(
            reads(),
            reads(drop_last=True),
            "drop_last False before and True now",
            id="the end of the epoch",
        ),
        pytest.param(
            reads(shuffle=False),
            reads(N + 2, shuffle=False),
            "samples of the dataset 22 before and 24 now",
            id="a dataset that was appended to, in order",
        ),
        pytest.param(
            over(lambda: DataLoader(Stream(), batch_size=BATCH)),
            over(lambda: DataLoader(Stream(), batch_size=BATCH)),
            "",
            id="a stream, whose length nobody knows",
        ),
    ],
)
def test_what_else_has_changed_is_said_and_goes_on_at_its_place(
    before: Script, now: Script, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lived(before, KILLED_BEHIND)
    capsys.readouterr()
    assert steps(lived(now))[0] == KILLED_BEHIND
    told = capsys.readouterr().err
    assert said in told
    assert ("other batches" in told) == bool(said)


def test_between_two_epochs_the_data_may_change() -> None:
    def script(n: int) -> Script:
        def run(life: Life) -> None:
            accelerator = life.accelerator()
            model = nn.Linear(1, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            loader = DataLoader(Rows(n), batch_size=BATCH, shuffle=True)
            model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
            for _ in accelerator.epochs(2):
                life.note("epoch")
                for x, y in loader:
                    accelerator.backward(nn.functional.mse_loss(model(x), y))
                    optimizer.step()
                    optimizer.zero_grad()

        return run

    lived(script(N), 2)  # at the beginning of the second epoch, of which a checkpoint is the newest
    assert lived(script(N + 2)) == [("epoch",)]


@pytest.mark.parametrize(
    "fact",
    [None, 3, [], {"length": -1}, {"length": True, "drop_last": 1}, {"global_batch": 2**60}],
    ids=repr,
)
def test_what_a_manifest_does_not_say_is_not_known(fact: object) -> None:
    assert Reading.of(fact) == Reading()


def test_what_is_written_is_read_again() -> None:
    one = Reading(length=22, global_batch=4, drop_last=True)
    assert Reading.of(one.fact()) == one
