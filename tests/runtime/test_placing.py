"""Batches that are copied to a device while the one before is computed."""

from collections import UserDict, namedtuple
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset

from runtime.collectives.nested import leaves
from runtime.data import loader as loaders
from runtime.data.placing import AtOnce, Beside, can_be_beside, placer
from runtime.data.prepare import prepare_data_loader
from tests.devices import CPU_AND_GPU, NEEDS_GPU

CPU = torch.device("cpu")
Point = namedtuple("Point", ["x", "label"])  # noqa: PYI024  # collections' own is what scripts have
CYCLES = 5 * 10**7  # for which a slow stream waits


class Graph:
    """An object of a library that moves itself, with tensors that nobody else knows."""

    def __init__(self) -> None:
        self.nodes = torch.ones(2)

    def to(self, device: Any) -> "Graph":
        self.nodes = self.nodes.to(device)
        return self


class Encoding(UserDict[str, Any]):
    """What tokenizers give: a mapping that moves itself."""

    def to(self, device: Any) -> "Encoding":
        return Encoding({name: one.to(device) for name, one in self.data.items()})


@pytest.mark.parametrize(
    ("batch", "can"),
    [
        pytest.param(torch.ones(1), True, id="a tensor"),
        pytest.param([torch.ones(1), (torch.ones(1), 3, "a", None)], True, id="nested"),
        pytest.param(Point(torch.ones(1), "a"), True, id="a namedtuple"),
        pytest.param(Encoding(ids=torch.ones(1)), True, id="a mapping that moves itself"),
        pytest.param(pack_sequence([torch.ones(2)]), True, id="a packed sequence"),
        pytest.param([Graph()], False, id="an object that moves itself"),
        pytest.param(torch.eye(2).to_sparse(), False, id="a sparse tensor"),
        pytest.param({"a": torch.ones(1, device="meta")}, False, id="a tensor of a device"),
        pytest.param(torch.nn.Parameter(torch.ones(1)), False, id="a kind of tensor"),
    ],
)
def test_what_can_be_copied_beside_the_computation(batch: Any, *, can: bool) -> None:
    assert can_be_beside(batch) == can


def test_only_an_accelerator_with_streams_copies_beside_what_it_computes() -> None:
    assert isinstance(placer(CPU, non_blocking=True), AtOnce)
    assert isinstance(placer(torch.device("meta"), non_blocking=True), AtOnce)


class Late:
    """A placer that copies when the batch is given, but before `begin` ends if it has to."""

    def __init__(self, _: torch.device = CPU, *, non_blocking: bool) -> None:
        self._non_blocking = non_blocking
        self.begun: list[Any] = []

    def begin(self, batch: Any) -> Any:
        self.begun.append(batch)
        sent = None if self._non_blocking else copied(batch)
        return lambda: copied(batch) if sent is None else sent


def copied(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.clone()
    if isinstance(batch, Mapping):
        return {name: copied(one) for name, one in batch.items()}
    return [copied(one) for one in batch] if isinstance(batch, list) else batch


class Numbers(IterableDataset[torch.Tensor]):
    """A stream of numbers."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.tensor(float(i)) for i in range(self.n))


class Reused(Dataset[torch.Tensor]):
    """Samples that are all in the same memory, one after the other."""

    def __init__(self, memory: torch.Tensor, n: int) -> None:
        self.memory, self.n = memory, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.memory.fill_(index)


@settings(max_examples=20)
@given(n=st.integers(0, 7), size=st.integers(1, 3), stream=st.booleans(), stops=st.integers(1, 9))
def test_each_batch_is_begun_one_ahead_and_given_once(
    n: int, size: int, stops: int, *, stream: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        late = Late(non_blocking=True)
        patch.setattr(loaders, "placer", lambda *_, **__: late)
        data: Any = Numbers(n) if stream else range(n)
        loader: Any = prepare_data_loader(
            DataLoader(data, size), CPU, 1, 0, put_on_device=True, dispatch_batches=False
        )
        found = []
        for batch in loader:
            found.append(batch.tolist())
            is_last = len(found) == -(-n // size)
            assert len(late.begun) == len(found) + (not is_last)
            assert loader.end_of_dataloader == is_last
            if len(found) == stops:
                break
    whole = [[*range(n)][i : i + size] for i in range(0, n, size)]
    assert found == whole[:stops]


@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_with_blocking_copies_memory_may_be_used_again_when_the_next_batch_is_read(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    slow(monkeypatch, device)
    memory = torch.empty(2**20)
    data = Reused(memory.pin_memory() if device == "cuda" else memory, 6)
    plain = DataLoader(data, batch_size=1, collate_fn=lambda samples: samples[0])
    loader = prepare_data_loader(plain, torch.device(device, 0), 1, 0, put_on_device=True)
    kept = [batch.sum() / 2**20 for batch in loader]
    assert [float(one) for one in kept] == [0, 1, 2, 3, 4, 5]


def slow(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Copy as late as the contract of placers allows."""
    monkeypatch.setattr(loaders, "placer", Late if device == "cpu" else Slow)


class Slow(Beside):
    """A real placer whose copies begin late."""

    def begin(self, batch: Any) -> Any:
        with torch.cuda.stream(self._stream):
            torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch has not typed it
        return super().begin(batch)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("slow_side", ["copies", "computation"])
def test_a_gpu_computes_on_what_was_read(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    slow_side: str,
    *,
    pinned: bool,
    non_blocking: bool,
) -> None:
    """Also where the memory of earlier batches, on both sides, is used again."""
    if slow_side == "copies":
        slow(monkeypatch, device)

    def collated(samples: list[int]) -> Any:
        value = torch.full((2**18,), float(samples[0]))
        return {"x": value, "more": (value.long(), "name"), "graph": Encoding(y=value + 1)}

    plain: Any = DataLoader(range(24), 1, collate_fn=collated, pin_memory=pinned)  # type: ignore[arg-type]  # a range will do
    loader = prepare_data_loader(
        plain, torch.device(device, 0), 1, 0, put_on_device=True, non_blocking=non_blocking
    )
    sums = []
    for batch in loader:
        if slow_side == "computation":
            torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch has not typed it
        found = [one for one in leaves(batch) if isinstance(one, torch.Tensor)]
        assert {one.device.type for one in found} == {device}
        sums.append(torch.stack([one.double().mean() for one in found]))
        batch["x"].zero_()  # it is the script's
    expected = [[float(i), float(i), float(i + 1)] for i in range(24)]
    assert torch.stack(sums).tolist() == expected


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
def test_the_host_is_a_few_batches_ahead_and_no_more(device: str) -> None:
    memory = torch.ones(2**22).pin_memory()
    plain: Any = DataLoader(range(40), 1, collate_fn=lambda _: memory)  # type: ignore[arg-type]  # a range will do
    loader = prepare_data_loader(
        plain, torch.device(device, 0), 1, 0, put_on_device=True, non_blocking=True
    )
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, total = torch.cuda.memory_allocated(), torch.zeros((), device=device)
    for batch in loader:
        torch.cuda._sleep(CYCLES // 5)  # type: ignore[no-untyped-call]  # torch has not typed it
        total += batch.mean()
    assert float(total) == 40
    assert torch.cuda.max_memory_allocated() - before < 9 * memory.nbytes
