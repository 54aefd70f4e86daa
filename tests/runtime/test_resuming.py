"""A loader that begins where another one was gives the rest, whoever reads its dataset."""

from collections.abc import Iterator
from itertools import chain, product
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from runtime.data_loader import prepare_data_loader, skip_first_batches

# More workers than cores, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

N, BATCH = 23, 3


class Plain(IterableDataset[int]):
    """0 to n-1, and can only be gone through."""

    def __init__(self, n: int = N) -> None:
        self.own = range(n)

    def numbers(self) -> range:
        return self.own

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers())


class Stateful(Plain):
    """The same, which knows where it is and can begin there; `read` is what it was asked for."""

    def __init__(self, n: int = N) -> None:
        super().__init__(n)
        self.position = self.begin = 0
        self.read: list[int] = []

    def __iter__(self) -> Iterator[int]:
        begin, self.begin = self.begin, 0
        for position, number in enumerate(self.numbers()[begin:], begin):
            self.position = position + 1
            self.read.append(number)
            yield number

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.begin = state["position"]


class AmongWorkers(Plain):
    """Divides itself among its workers, without a state."""

    def numbers(self) -> range:
        info = get_worker_info()
        return self.own if info is None else self.own[info.id :: info.num_workers]


class StatefulAmongWorkers(Stateful, AmongWorkers):
    """Divides itself among its workers, and knows where each of them is."""


class FromOutside(Stateful):
    """Is divided among workers by `divide`."""


def divide(_: int) -> None:
    """A worker_init_fn as torch's documentation has it."""
    info: Any = get_worker_info()
    info.dataset.own = info.dataset.own[info.id :: info.num_workers]


ONE_STREAM = [Plain, Stateful]
DIVIDED = [AmongWorkers, StatefulAmongWorkers, FromOutside]


def loader(
    kind: Any, workers: int, *, world: int = 1, rank: int = 0, dispatch: bool = False, **more: Any
) -> Any:
    plain: DataLoader[int] = DataLoader(
        kind(),
        batch_size=BATCH,
        num_workers=workers,
        worker_init_fn=divide if kind is FromOutside else None,
        **more,
    )
    return prepare_data_loader(
        plain,
        num_processes=world,
        process_index=rank,
        put_on_device=dispatch,
        dispatch_batches=dispatch,
    )


def passed(reader: Any) -> list[tuple[list[int], dict[str, Any]]]:
    """Every batch, and the loader's state behind it."""
    return [(batch.tolist(), reader.state_dict()) for batch in reader]


def rest(reader: Any, state: dict[str, Any]) -> list[list[int]]:
    reader.load_state_dict(state)
    return [batch.tolist() for batch in reader]


@pytest.mark.parametrize("dispatch", [False, True], ids=["shard", "dispatcher"])
@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("kind", ONE_STREAM)
def test_one_stream_goes_on_with_any_number_of_workers(
    kind: Any, workers: int, dispatch: bool
) -> None:
    whole = passed(loader(kind, workers, dispatch=dispatch))
    batches = [batch for batch, _ in whole]
    assert batches == [[*range(N)][i : i + BATCH] for i in range(0, N, BATCH)]
    for at, others in ((0, 2), (6, 0)):
        again = loader(kind, others, dispatch=dispatch)
        assert rest(again, whole[at][1]) == batches[at + 1 :]


@pytest.mark.parametrize("dispatch", [False, True], ids=["shard", "dispatcher"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", DIVIDED)
def test_a_dataset_that_is_divided_goes_on_in_each_worker(
    kind: Any, workers: int, dispatch: bool
) -> None:
    whole = passed(loader(kind, workers, dispatch=dispatch))
    batches = [batch for batch, _ in whole]
    assert sorted(chain(*batches)) == [*range(N)]
    for at in (2, len(batches) - 2):
        again = loader(kind, workers, dispatch=dispatch)
        assert rest(again, whole[at][1]) == batches[at + 1 :]


@pytest.mark.parametrize(("before", "after"), [(2, 3), (2, 0), (0, 2)])
@pytest.mark.parametrize("kind", DIVIDED)
def test_a_dataset_that_is_divided_refuses_another_number_of_workers(
    kind: Any, before: int, after: int
) -> None:
    state = passed(loader(kind, before))[2][1]
    with pytest.raises(ValueError, match=f"num_workers must be {before}, got {after}"):
        rest(loader(kind, after), state)


@pytest.mark.parametrize("kind", [*ONE_STREAM, *DIVIDED])
def test_a_state_can_be_saved_again_before_all_workers_have_given(kind: Any) -> None:
    whole = passed(loader(kind, 3))
    second = loader(kind, 3)
    second.load_state_dict(whole[3][1])
    _, state = passed(second)[0]
    assert rest(loader(kind, 3), state) == [batch for batch, _ in whole[5:]]


@pytest.mark.parametrize("kind", [*ONE_STREAM, *DIVIDED])
def test_the_epoch_after_a_resumed_one_is_whole(kind: Any) -> None:
    options = {"persistent_workers": True}
    whole = passed(loader(kind, 2, **options))
    batches = [batch for batch, _ in whole]
    again = loader(kind, 2, **options)
    assert rest(again, whole[4][1]) == batches[5:]
    for _ in range(2):
        assert [batch.tolist() for batch in again] == batches


@pytest.mark.parametrize("kind", [*ONE_STREAM, *DIVIDED])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_batches_are_skipped_whoever_reads(kind: Any, workers: int) -> None:
    batches = [batch for batch, _ in passed(loader(kind, workers))]
    skipping = skip_first_batches(loader(kind, workers), 3)
    found = passed(skipping)
    assert [batch for batch, _ in found] == batches[3:]
    assert rest(loader(kind, workers), found[1][1]) == batches[5:]


@pytest.mark.parametrize(
    ("kind", "workers"), [*product(ONE_STREAM, (0, 2)), *product(DIVIDED, (2,))]
)
def test_each_rank_goes_on_with_its_own_part(kind: Any, workers: int) -> None:
    """From the state of rank 0, and with the same padding at the end."""
    ranks = [passed(loader(kind, workers, world=2, rank=rank)) for rank in range(2)]
    assert {x for rank in ranks for batch, _ in rank for x in batch} == {*range(N)}
    for at, rank in product((0, 2), range(2)):
        again = loader(kind, workers, world=2, rank=rank)
        assert rest(again, ranks[0][at][1]) == [batch for batch, _ in ranks[rank][at + 1 :]]


@pytest.mark.parametrize("world", [1, 2])
def test_what_was_read_before_is_not_read_again(world: int) -> None:
    """But for the first samples of the epoch, which fill its last step."""
    reader = loader(Stateful, 0, world=world)
    state = passed(reader)[1][1]
    again = loader(Stateful, 0, world=world)
    rest(again, state)
    filled = [0] if world == 2 else []
    assert again.dataset.dataset.read[: N - 2 * BATCH * world] == [*range(2 * BATCH * world, N)]
    assert again.dataset.dataset.read[N - 2 * BATCH * world :] == filled


class ByEpoch(Plain):
    """Another order in each epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(N, generator=torch.Generator().manual_seed(self.epoch)).tolist())


def test_workers_that_live_on_hear_of_the_epoch() -> None:
    """With plain torch, and accelerate 1.15, they repeat the first one's order."""
    reader = loader(ByEpoch, 2, persistent_workers=True)
    for epoch in (0, 1, 2):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).tolist()
        assert [x for batch in reader for x in batch.tolist()] == order


class Squares(Dataset[int]):
    """A dataset that is asked for indices."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> int:
        return index**2


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_indices_go_on_with_workers_that_live_on(shuffle: bool, persistent: bool) -> None:
    def reader(workers: int) -> Any:
        torch.manual_seed(1)
        plain: DataLoader[int] = DataLoader(
            Squares(),
            BATCH,
            shuffle=shuffle,
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
        )
        return prepare_data_loader(plain)

    one = reader(2)
    first, second = passed(one), passed(one)
    for workers, at in ((2, 1), (0, 5)):
        again = reader(workers)
        assert rest(again, first[at][1]) == [batch for batch, _ in first[at + 1 :]]
        again.load_state_dict(second[at][1])
        assert passed(again)[0][0] == second[at + 1][0]


def test_a_stream_that_does_not_tell_its_length_may_be_skipped_twice() -> None:
    """The second time says how many batches are left out, as with Accelerate."""
    whole = prepare_data_loader(DataLoader(Plain(), BATCH))
    part = skip_first_batches(skip_first_batches(whole, 1), 2)
    first, *_ = [batch.tolist() for batch in part]
    assert first == [6, 7, 8]
    assert whole.iteration == 1
