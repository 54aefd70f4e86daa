"""Batches read as a whole are those that torch collates sample by sample."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from runtime import Accelerator
from runtime.data.fetch import Batches, by_batch
from runtime.data_loader import prepare_data_loader

N = 23
KINDS = {
    "float32, 2-d": torch.randn(N, 5),
    "float64, no dimension a sample": torch.randn(N, dtype=torch.float64),
    "int64": torch.arange(N),
    "int8, 4-d": torch.arange(N * 12, dtype=torch.int16).to(torch.int8).view(N, 3, 2, 2),
    "bool": torch.arange(N) % 3 == 0,
    "bfloat16": torch.randn(N, 2).bfloat16(),
    "complex64": torch.randn(N, 2, dtype=torch.complex64),
    "nothing in a sample": torch.zeros(N, 0),
    "one channel": torch.randn(N, 1, 4, 4),
    "transposed": torch.randn(5, N).t(),
    "channels last": torch.randn(N, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "expanded": torch.randn(1, 4).expand(N, 4),
    "sliced": torch.randn(2 * N, 4)[::2],
    "conjugated": torch.randn(N, 2, dtype=torch.complex64).conj(),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "in order": {"batch_size": 4},
    "shuffled, whole batches only": {"batch_size": 4, "shuffle": True, "drop_last": True},
    "workers": {"batch_size": 6, "num_workers": 2},
    "persistent workers": {"batch_size": 8, "num_workers": 1, "persistent_workers": True},
    "numbers from the end": {"batch_sampler": [[-1, 0], [3, -4]]},
    "numbers that are tensors": {"batch_sampler": [[torch.tensor(2), 5], [torch.tensor(1)]]},
    "numbers that are bool": {"batch_sampler": [[True, True]]},
    "one by one": {"batch_size": None},
    "its own collate_fn": {"batch_size": 4, "collate_fn": len},
    "the number of a row": {"batch_size": 4, "sampler": [3, 3, 0, 22]},
}


def seen(batch: Any) -> Any:
    """Everything that a script can see of a batch."""
    if isinstance(batch, list | tuple):
        return type(batch), [seen(one) for one in batch]
    if not isinstance(batch, torch.Tensor):
        return batch
    numbers = torch.view_as_real(batch.resolve_conj()) if batch.is_complex() else batch
    return batch.dtype, batch.shape, batch.stride(), batch.is_conj(), numbers.tolist()


def both(dataset: Dataset[Any], **options: Any) -> tuple[list[Any], list[Any]]:
    """Two epochs of torch's loader, and of the prepared one."""
    found: list[list[Any]] = []
    for prepare in (lambda loader: loader, Accelerator(cpu=True).prepare_data_loader):
        torch.manual_seed(4)
        loader = prepare(DataLoader(dataset, **options))
        found.append([seen(batch) for _ in range(2) for batch in loader])
        assert loader.dataset is dataset
    return found[0], found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor_comes_as_torch_gives_it(kind: str) -> None:
    plain, prepared = both(TensorDataset(KINDS[kind], torch.arange(N)), batch_size=5)
    assert prepared == plain


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, [5, 3, 3, *range(10, 23)])])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_way_of_reading_gives_the_same(options: dict[str, Any], wrap: Any) -> None:
    dataset = wrap(TensorDataset(torch.randn(N, 3), torch.arange(N)))
    if "sampler" in options and isinstance(dataset, Subset):
        options = options | {"sampler": [3, 3, 0, 15]}
    plain, prepared = both(dataset, **options)
    assert prepared == plain


def test_a_subset_of_a_subset() -> None:
    inner = Subset(TensorDataset(torch.arange(N)), range(1, 20, 2))
    plain, prepared = both(Subset(inner, [4, 2, 9]), batch_size=2)
    assert prepared == plain


def test_a_number_that_is_not_there_is_torchs_error() -> None:
    loader = Accelerator(cpu=True).prepare_data_loader(
        DataLoader(TensorDataset(torch.arange(4)), batch_sampler=[[9]])
    )
    with pytest.raises(IndexError, match="9 is out of bounds for dimension 0 with size 4"):
        next(iter(loader))


class Own(TensorDataset):
    """A script's own: it may read its rows in any way."""


def loader(dataset: Any = None, **options: Any) -> DataLoader[Any]:
    usual = TensorDataset(torch.arange(4)) if dataset is None else dataset
    return DataLoader(usual, **({"batch_size": 2} | options))


def reads_by_batch(one: DataLoader[Any]) -> bool:
    with by_batch(one):
        return isinstance(one.dataset, Batches)


@pytest.mark.parametrize(
    ("make", "by_batch"),
    [
        pytest.param(loader, True, id="torch's own"),
        pytest.param(lambda: loader(Subset(TensorDataset(torch.ones(4)), [0])), True, id="subset"),
        pytest.param(lambda: loader(num_workers=1), True, id="workers"),
        pytest.param(lambda: loader(Own(torch.arange(4))), False, id="a script's own dataset"),
        pytest.param(lambda: loader(collate_fn=print), False, id="a script's own collate_fn"),
        pytest.param(lambda: loader(batch_size=None), False, id="samples"),
        pytest.param(
            lambda: loader(num_workers=1, worker_init_fn=print),
            False,
            id="a worker_init_fn, which may look at its worker's dataset",
        ),
        pytest.param(
            lambda: loader(TensorDataset(torch.ones(4, requires_grad=True))), False, id="gradients"
        ),
        pytest.param(
            lambda: loader(TensorDataset(torch.ones(4, 4).t())), False, id="rows that are not whole"
        ),
    ],
)
def test_what_is_read_by_batch(make: Callable[[], DataLoader[Any]], by_batch: bool) -> None:
    one = make()
    before = one.dataset, one.collate_fn
    assert reads_by_batch(one) is by_batch
    assert (one.dataset, one.collate_fn) == before


@pytest.mark.parametrize("kind", [tuple, torch.Tensor])
def test_what_a_script_has_told_default_collate_is_done(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(batch: list[Any], **_: Any) -> Any:
        return len(batch)

    monkeypatch.setitem(default_collate_fn_map, kind, count)
    assert not reads_by_batch(loader())
    assert default_collate is loader().collate_fn


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")  # some versions of torch
def test_a_profiler_sees_the_batches_that_torch_would_mark() -> None:
    loader = prepare_data_loader(DataLoader(TensorDataset(torch.arange(6)), batch_size=2))
    marks = []
    for one in (loader, DataLoader(TensorDataset(torch.arange(6)), batch_size=2)):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            list(one)
        marks.append({e.key: e.count for e in seen.key_averages() if e.key.startswith("enumerate")})
    assert marks[0] == marks[1] != {}
