"""A forked worker that hangs before its first line: as CPython's own lock makes it do."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.utils.data import DataLoader, TensorDataset

from runtime.data import forking
from runtime.data.forking import Context, Worker, answering

DATA = TensorDataset(torch.arange(8.0))


class Forks:
    """Counts the forks of this process, and lets the first ones hang in the child."""

    def __init__(self) -> None:
        self.hanging = 0
        self.seen = 0
        os.register_at_fork(before=self.count, after_in_child=self.begin)  # for good

    def count(self) -> None:
        self.seen += 1

    def begin(self) -> None:
        if self.seen <= self.hanging:
            signal.pause()

    def hang(self, number: int) -> None:
        self.seen, self.hanging = 0, number

    def patience(self) -> Iterator[float]:
        """Seconds for each attempt: few for a fork that hangs; others begin, at last."""
        for _ in range(3):
            yield 0.5 if self.seen < self.hanging else 60.0


class Patience:
    """Stands for `forking.PATIENCE`."""

    def __iter__(self) -> Iterator[float]:
        return FORKS.patience()


FORKS = Forks()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    monkeypatch.setattr(forking, "PATIENCE", Patience())
    yield FORKS.hang
    FORKS.hang(0)


def read(loader: DataLoader[tuple[torch.Tensor, ...]]) -> list[float]:
    with answering(loader):
        batches = iter(loader)
    return [value for (batch,) in batches for value in batch.tolist()]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("hanging", "forks"),
    [
        pytest.param(0, 2, id="none hangs: two workers are two forks"),
        pytest.param(1, 3, id="the first hangs: it is forked again"),
        pytest.param(2, 4, id="the first hangs twice"),
    ],
)
def test_a_worker_that_does_not_begin_is_forked_again(
    hanging: int, forks: int, hang: Callable[[int], None]
) -> None:
    loader = DataLoader(DATA, batch_size=2, num_workers=2)
    hang(hanging)
    assert read(loader) == DATA.tensors[0].tolist()
    assert FORKS.seen == forks
    assert loader.multiprocessing_context is None


def test_when_none_begins_the_error_says_what_to_do(hang: Callable[[int], None]) -> None:
    before = len(multiprocessing.active_children())
    hang(3)
    forking.PATIENCE = (0.1, 0.1, 0.1)
    with pytest.raises(RuntimeError, match=r'none of 3 did within 0 s.*"forkserver"'):
        Context().Process(target=print).start()
    assert len(multiprocessing.active_children()) == before


def test_a_worker_that_dies_at_once_is_left_to_torch() -> None:
    process = Worker(target=os._exit, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 3


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        pytest.param({"num_workers": 1}, Worker, id="forked by default"),
        pytest.param(
            {"num_workers": 1, "multiprocessing_context": "fork"}, Worker, id="forked by wish"
        ),
        pytest.param(
            {"num_workers": 1, "multiprocessing_context": "spawn"},
            multiprocessing.get_context("spawn").Process,
            id="spawned by wish",
        ),
    ],
)
def test_only_forks_are_watched(settings: dict[str, object], kind: type) -> None:
    loader = DataLoader(DATA, **settings)  # type: ignore[arg-type]  # a table's row
    with answering(loader):
        made = loader.multiprocessing_context
    wanted = made.Process if made is not None else None
    assert wanted is kind


def test_without_a_process_group_there_are_no_such_threads() -> None:
    loader = DataLoader(DATA, num_workers=1)
    with answering(loader):
        assert loader.multiprocessing_context is None
