"""One bit that differs on one rank is found, and named with its tensor and rank."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, nn
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DistributedDataParallel

from runtime.control.verdicts.divergence import combined, compare
from runtime.loop import digest as digests_module
from runtime.loop.digest import digest, digests, of_training

ALIKE = {"a": 1, "b": 2, "c": 3}
CASES: dict[str, tuple[list[Mapping[str, int]], tuple[str, tuple[int, ...], bool, int] | None]] = {
    "nothing if all are alike": ([ALIKE] * 4, None),
    "nothing without ranks": ([], None),
    "the first tensor and the minority": (
        [ALIKE, ALIKE | {"b": 9, "c": 8}, ALIKE],
        ("b", (1,), True, 2),
    ),
    "two of five": (
        [ALIKE | {"a": 9}, ALIKE, ALIKE | {"a": 8}, ALIKE, ALIKE],
        ("a", (0, 2), True, 1),
    ),
    "with two ranks both": ([ALIKE, ALIKE | {"c": 9}], ("c", (0, 1), False, 3)),
    "without a majority all": (
        [ALIKE, ALIKE, *[ALIKE | {"c": 9}] * 2],
        ("c", (0, 1, 2, 3), False, 3),
    ),
    "a tensor that one rank does not have": (
        [ALIKE, ALIKE, {"a": 1, "c": 3}],
        ("b", (2,), True, 2),
    ),
    "a tensor that only one rank has": ([ALIKE, ALIKE, ALIKE | {"d": 1}], ("d", (2,), True, 4)),
}


@pytest.mark.parametrize(("ranks", "expected"), CASES.values(), ids=CASES)
def test_what_differs_is(
    ranks: list[dict[str, int]], expected: tuple[str, tuple[int, ...], bool, int] | None
) -> None:
    found = compare(dict(enumerate(ranks)))
    told = found and (found.tensor, found.ranks, found.has_majority, found.number)
    assert told == expected
    assert (len({combined(one) for one in ranks}) > 1) == (found is not None)


def test_it_is_said_in_a_sentence() -> None:
    with_majority = compare({0: ALIKE, 1: ALIKE | {"b": 9}, 2: ALIKE})
    assert str(with_majority) == (
        "the training diverges: rank 1 differs from the other ranks in b, the first that differs: "
        "tensor 2 of 3"
    )
    without = compare({0: ALIKE, 1: ALIKE | {"b": 9}})
    assert str(without) == (
        "the training diverges: ranks 0, 1 differ in b, the first that differs: tensor 2 of 3; "
        "no majority says which one is right"
    )
    many = compare({rank: ALIKE | {"b": rank} for rank in range(100)})
    assert many is not None
    assert "and 92 more" in str(many)


def test_the_combined_digest_knows_names_and_order() -> None:
    assert combined({"a": 1, "b": 2}) != combined({"a": 2, "b": 1})
    assert combined({"a": 1, "b": 2}) != combined({"b": 2, "a": 1})
    assert combined({"a": -1}) == combined({"a": 2**64 - 1})


DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
]


@pytest.fixture
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small tensors have many rows."""
    monkeypatch.setattr(digests_module, "ROW", 8)


def random_bytes(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(seed)).to(
        torch.uint8
    )


@pytest.mark.usefixtures("short_rows")
@pytest.mark.parametrize(
    ("dtype", "count"), [*((dtype, 3) for dtype in DTYPES), (torch.uint8, 149)], ids=str
)
def test_every_flipped_bit_is_found(dtype: torch.dtype, count: int) -> None:
    size = torch.empty((), dtype=dtype).element_size()
    octets = random_bytes(count * size, 7) & (1 if dtype == torch.bool else 255)
    expected = int(digest(octets.clone().view(dtype)))
    bits = [0] if dtype == torch.bool else range(8)
    for at in range(len(octets)):
        for bit in bits:
            flipped = octets.clone()
            flipped[at] ^= 1 << bit
            assert int(digest(flipped.view(dtype))) != expected, (at, bit)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8]),
    st.integers(2, 300),
    st.data(),
)
def test_exchanged_elements_are_found(dtype: torch.dtype, count: int, data: st.DataObject) -> None:
    """Also those that differ in one bit only, such as a number and its negative."""
    one, two = data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    size = torch.empty((), dtype=dtype).element_size()
    tensor = random_bytes(count * size, count).view(dtype)
    octets = tensor.view(torch.uint8).view(count, size)
    octets[two] = octets[one]
    octets[two, data.draw(st.integers(0, size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    exchanged = octets.clone()
    exchanged[[one, two]] = octets[[two, one]]
    assert int(digest(tensor)) != int(digest(exchanged.view(-1).view(dtype)))


@pytest.mark.usefixtures("short_rows")
def test_exchanged_rows_are_found() -> None:
    tensor = torch.arange(64)
    rows = tensor.view(8, 8)[[0, 2, 1, 3, 4, 5, 6, 7]].reshape(-1)
    assert int(digest(tensor)) != int(digest(rows))


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(6, 2),
        torch.zeros(12),
        torch.zeros(3, 4, dtype=torch.int32),
        torch.zeros(3, 5),
        torch.full((3, 4), -0.0),
    ],
    ids=lambda one: f"{one.dtype} {tuple(one.shape)} {one.view(-1)[0]}",
)
def test_shape_dtype_and_all_bits_count(other: torch.Tensor) -> None:
    assert int(digest(torch.zeros(3, 4))) != int(digest(other))


def test_strides_and_places_in_memory_do_not_count() -> None:
    tensor = torch.randn(6, 5)
    assert int(digest(tensor)) == int(digest(tensor.t().contiguous().t()))
    halves = torch.randn(9).to(torch.bfloat16)
    assert int(digest(halves[1:])) == int(digest(halves[1:].clone()))
    assert int(digest(torch.tensor(3.0))) == int(digest(torch.tensor(3.0)))
    assert int(digest(torch.empty(0))) == int(digest(torch.empty(0)))


@pytest.mark.usefixtures("short_rows")
def test_it_does_not_matter_how_many_rows_are_added_at_once() -> None:
    """An accelerator adds many, a CPU as much as its cache holds."""
    words = torch.arange(96).view(-1, 8)
    one_by_one = torch.cat([digests_module._weighted(row[None]) for row in words])
    assert torch.equal(digests_module._weighted(words), one_by_one)


def trained(*, flip: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    linear = nn.Linear(3, 4)
    model = nn.Sequential(linear, nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    if flip:
        moment = optimizer.state[linear.weight]["exp_avg"]
        moment.view(torch.int32)[1, 2] ^= 1
    return model, optimizer


def test_a_flipped_bit_in_one_ranks_optimizer_is_named_with_tensor_and_rank() -> None:
    tables = {}
    for rank in range(3):
        model, optimizer = trained(flip=rank == 2)
        generator = torch.Generator().manual_seed(5)
        tables[rank] = digests(of_training([model], [optimizer], {"data": generator}))
    found = compare(tables)
    assert found is not None
    assert found.tensor == "optimizer 0: model 0: 0.weight: exp_avg"
    assert (found.ranks, found.number) == ((2,), [*tables[0]].index(found.tensor) + 1)


class Own(nn.Module):
    """A module with a buffer that does not come from the batches of its rank."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(2))


def test_statistics_of_the_ranks_own_batches_do_not_count_but_other_buffers_do() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3), Own())
    names = {name for name in of_training([model]) if not name.endswith(("weight", "bias"))}
    synced = {f"model 0: 1.{one}" for one in ("running_mean", "running_var", "num_batches_tracked")}
    assert names == synced | {"model 0: 2.table"}


@pytest.fixture
def alone_in_a_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone_in_a_group")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_what_ddp_does_not_keep_alike_does_not_count(is_compiled: bool) -> None:
    """Buffers that it replaces in each forward, and parameters that it is told to ignore."""
    module = nn.Sequential(nn.Linear(2, 2), Own(), nn.Linear(2, 2))
    vars(module)["_ddp_params_and_buffers_to_ignore"] = ["2.bias"]  # as torch sets it
    momentum = torch.optim.SGD(module.parameters(), momentum=0.9)
    for broadcasts, buffers in ((True, set()), (False, {"model 0: 1.table"})):
        model = DistributedDataParallel(module)
        model.broadcast_buffers = broadcasts
        model.module[0](torch.ones(1, 2)).sum().backward()
        model.module[2](torch.ones(1, 2)).sum().backward()
        momentum.step()
        parameters = {f"model 0: {one}" for one in ("0.weight", "0.bias", "2.weight")}
        states = {f"optimizer 0: {one}: momentum_buffer" for one in parameters}
        prepared: Any = torch.compile(model, backend="eager") if is_compiled else model
        assert of_training([prepared], [momentum]).keys() == parameters | buffers | states


def test_what_counts_of_a_training() -> None:
    model, optimizer = trained()
    names = of_training([model], [optimizer], {"data": torch.Generator()})
    assert {"model 0: 0.weight", "model 0: 1.weight", "generator data"} <= names.keys()
    assert "optimizer 0: model 0: 1.bias: step" in names
    parameters = len(list(model.parameters()))
    assert len(names) == parameters + 3 * parameters + 1
    momentum = torch.optim.SGD(nn.Linear(2, 2).parameters(), momentum=0.9)
    assert of_training([], [momentum]) == {}
