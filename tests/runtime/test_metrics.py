"""What metrics count in a world of one; tests/distributed compares the others with Accelerate's."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

N, BATCH = 37, 8
TAIL = N % BATCH
LIBRARIES = ("runtime", "accelerate")


class Numbers(Dataset[int]):
    """0 to n-1."""

    def __init__(self, n: int = N) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


class Stream(IterableDataset[int]):
    """The same; how many is not known before."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(N))


def gathered(
    library: str, loader: DataLoader[Any], data: Any, *, as_objects: bool = False, **options: Any
) -> list[Any]:
    """What is gathered of the same data at each batch."""
    home = importlib.import_module(library)
    config = importlib.import_module(f"{library}.utils").DataLoaderConfiguration(**options)
    accelerator = home.Accelerator(cpu=True, dataloader_config=config)
    return [
        accelerator.gather_for_metrics(data, use_gather_object=as_objects)
        for _ in accelerator.prepare(loader)
    ]


LOADERS: dict[str, tuple[Any, dict[str, Any], int]] = {  # loader, options, rows of the last batch
    "a last batch that is short": (lambda: DataLoader(Numbers(), BATCH), {}, TAIL),
    "shuffled": (lambda: DataLoader(Numbers(), BATCH, shuffle=True), {}, TAIL),
    "a stream": (lambda: DataLoader(Stream(), BATCH), {}, TAIL),
    "dispatched": (lambda: DataLoader(Numbers(), BATCH), {"dispatch_batches": True}, TAIL),
    "a whole last batch": (lambda: DataLoader(Numbers(40), BATCH), {}, 2 * BATCH),
    "a whole last batch, dispatched": (
        lambda: DataLoader(Numbers(40), BATCH),
        {"dispatch_batches": True},
        2 * BATCH,
    ),
    "drop_last": (lambda: DataLoader(Numbers(), BATCH, drop_last=True), {}, 2 * BATCH),
}


@pytest.mark.parametrize("case", LOADERS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_beyond_the_last_batchs_samples_are_cut(library: str, case: str) -> None:
    make, options, rows = LOADERS[case]
    if library == "accelerate" and case == "a whole last batch, dispatched":
        rows = BATCH  # it cuts a whole batch as well, which it does not if nobody dispatches it
    found = gathered(library, make(), torch.arange(2.0 * BATCH), **options)
    assert [len(one) for one in found[:-1]] == [2 * BATCH] * (len(found) - 1)
    assert found[-1].tolist() == list(range(rows))


DATA: dict[str, tuple[Any, Any]] = {  # what is gathered, and what is left of it at the end
    "nested tensors": (
        {"a": torch.ones(8, 2), "b": [torch.ones(2)]},
        {"a": [[1.0, 1.0]] * TAIL, "b": [[1.0, 1.0]]},
    ),
    "objects, one a sample": (list("abcdefgh"), list("abcde")),
    "a number": (torch.tensor(1.0), 1.0),
}


@pytest.mark.parametrize("case", DATA)
@pytest.mark.parametrize("library", LIBRARIES)
def test_whatever_is_gathered_is_cut_in_its_form(library: str, case: str) -> None:
    data, right = DATA[case]
    assert plain(gathered(library, DataLoader(Numbers(), BATCH), data)[-1]) == right


BOXES = [[[float(sample)]] * 9 for sample in range(TAIL)]  # of each sample more than samples
OBJECTS: dict[str, tuple[Any, Any]] = {
    "a tensor for each sample keeps its rows": ([torch.tensor(one) for one in BOXES], BOXES),
    "a dict of tensors for each sample keeps its rows": (
        [{"boxes": torch.tensor(one)} for one in BOXES],
        [{"boxes": one} for one in BOXES],
    ),
    "tensors beyond the samples are cut": ([torch.ones(9)] * BATCH, [[1.0] * 9] * TAIL),
    "names beyond the samples are cut": (list("abcdefgh"), list("abcde")),
    "a tensor with a row for each sample is cut": (torch.arange(8.0), [0.0, 1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize("case", OBJECTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_objects_are_counted_and_not_their_rows(library: str, case: str) -> None:
    data, right = OBJECTS[case]
    found = gathered(library, DataLoader(Numbers(), BATCH), data, as_objects=True)
    assert plain(found[-1]) == right


@pytest.mark.parametrize(
    "case", ["a dict with a tensor for each sample", "a tuple of lists and tensors"]
)
def test_containers_of_objects_are_cut_part_by_part(case: str) -> None:
    """Accelerate drops the dict's values, and the tuple's parts."""
    boxes = [torch.tensor(one) for one in BOXES]
    is_dict = case.startswith("a dict")
    data: Any = {"boxes": boxes} if is_dict else (boxes, torch.arange(8.0))
    right: Any = {"boxes": BOXES} if is_dict else (BOXES, [0.0, 1.0, 2.0, 3.0, 4.0])
    found = gathered("runtime", DataLoader(Numbers(), BATCH), data, as_objects=True)[-1]
    assert (tuple(map(plain, found)) if isinstance(found, tuple) else plain(found)) == right


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_loss_that_is_repeated_for_each_sample_has_the_mean_of_the_samples(library: str) -> None:
    """As transformers' Trainer evaluates."""
    home = importlib.import_module(library)
    accelerator = home.Accelerator(cpu=True)
    losses = [
        accelerator.gather_for_metrics(batch.float().mean().repeat(BATCH))
        for batch in accelerator.prepare(DataLoader(Numbers(), BATCH))
    ]
    assert torch.cat(losses).mean().item() == pytest.approx(sum(range(N)) / N)


def plain(data: Any) -> Any:
    if isinstance(data, torch.Tensor):
        return data.tolist()
    if isinstance(data, dict):
        return {key: plain(item) for key, item in data.items()}
    return [plain(item) for item in data] if isinstance(data, list) else data
