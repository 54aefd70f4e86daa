"""torch's own random order, lazily; and the keyed one: is it a permutation, and is it random?

The seeds are fixed, so that no test is right by chance. A figure of a random order is compared
with what a uniform one has, in standard deviations: 4.5 of them are seen once in 150,000 times.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations, product

import pytest
import torch
from torch.utils.data import RandomSampler

from runtime.data import permutation
from runtime.data.order import KeyedRandomSampler, order_of
from runtime.data.permutation import FORWARD_LIMIT, PREFIX, SMALL, KeyedPermutation, LazyPermutation

SIGMAS = 4.5
LARGE = SMALL + 4465  # by the network; no power of two


def whole(order: KeyedPermutation | LazyPermutation) -> torch.Tensor:
    return order.take(torch.arange(len(order)))


def network(n: int, *, seed: int = 0, epoch: int = 0) -> KeyedPermutation:
    """A keyed order by the network, also of a set that is small enough to write out."""
    order = KeyedPermutation(n, seed=seed, epoch=epoch)
    order._whole = None
    return order


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Orders are short: several threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def deviations(counts: torch.Tensor, expected: float, freedom: int | None = None) -> float:
    """How far the chi-square of equal cells is from its mean."""
    freedom = counts.numel() - 1 if freedom is None else freedom
    chi_square = float(((counts.double() - expected) ** 2 / expected).sum())
    return (chi_square - freedom) / math.sqrt(2 * freedom)


SIZES = [
    *range(301),
    *(2**bits + more for bits in (9, 12, 15, 16, 17, 20) for more in (-1, 0, 1)),
    LARGE,
]


def test_a_keyed_order_has_every_index_once() -> None:
    for n in SIZES:
        for order in (network(n, seed=n), KeyedPermutation(n, seed=n, epoch=1)):
            assert torch.equal(whole(order).sort().values, torch.arange(n)), n


def test_a_keyed_order_of_a_large_set_stays_in_it() -> None:
    """And no index comes twice: far from the square root of n, where chance would repeat one."""
    for n in (2**31 + 1, 10**12, 2**62):
        positions = torch.randint(n, (1000,), generator=torch.Generator().manual_seed(1))
        indices = network(n).take(positions)
        assert len({*indices.tolist()}) == len({*positions.tolist()})
        assert 0 <= int(indices.min()) <= int(indices.max()) < n


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_of_a_few_is_equally_likely(n: int) -> None:
    each = 200
    orders = range(each * math.factorial(n))
    counts = Counter(tuple(whole(KeyedPermutation(n, seed=7, epoch=e)).tolist()) for e in orders)
    assert set(counts) == set(permutations(range(n)))
    assert abs(deviations(torch.tensor([*counts.values()]), each)) < SIGMAS


@pytest.mark.parametrize("n", [1000, LARGE])
def test_every_index_is_equally_likely_at_every_position(n: int) -> None:
    """In a grid of positions and indices; and at the first, middle and last position."""
    cells, seeds = 20, 40
    orders = torch.stack([whole(network(n, seed=seed)) for seed in range(seeds)])
    columns = (torch.arange(n) * cells // n).expand(seeds, n)
    grid = torch.bincount((columns * cells + orders * cells // n).flatten(), minlength=cells**2)
    # The sums of all rows and columns are given.
    assert abs(deviations(grid, seeds * n / cells**2, (cells - 1) ** 2)) < SIGMAS
    places = torch.tensor([0, n // 2, n - 1])
    found = torch.stack([network(n, seed=seed).take(places) for seed in range(2000)])
    for column in found.T:
        counts = torch.bincount(column * cells // n, minlength=cells)
        assert abs(deviations(counts, 2000 / cells)) < SIGMAS


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 4096])
def test_neighbours_know_nothing_of_each_other(lag: int) -> None:
    """Pairs of indices at a distance: not correlated, and evenly spread over a grid."""
    cells = 32
    for seed in range(3):
        indices = whole(network(LARGE, seed=seed))
        first, second = indices[:-lag], indices[lag:]
        correlation = torch.corrcoef(torch.stack([first, second]).double())[0, 1]
        assert abs(float(correlation)) * math.sqrt(len(first)) < SIGMAS
        pairs = (first * cells // LARGE) * cells + second * cells // LARGE
        counts = torch.bincount(pairs, minlength=cells**2)
        assert abs(deviations(counts, len(first) / cells**2, (cells - 1) ** 2)) < SIGMAS


def test_as_many_indices_stay_in_place_as_chance_has_it() -> None:
    """One an order, whose variance is one."""
    seeds = 400
    fixed = sum(
        int((whole(network(1000, seed=seed)) == torch.arange(1000)).sum()) for seed in range(seeds)
    )
    assert abs(fixed - seeds) / math.sqrt(seeds) < SIGMAS


@pytest.mark.parametrize("n", [1000, LARGE])
def test_a_step_of_seed_or_epoch_gives_an_order_that_has_nothing_to_do_with_it(n: int) -> None:
    """Two random orders agree at one position, and are not correlated; also if a bit differs."""
    own = whole(network(n, seed=5, epoch=3))
    bits = range(0, 64, 3)
    others = [(5 ^ 1 << bit, 3) for bit in bits] + [(5, 3 ^ 1 << bit) for bit in bits]
    same, extreme = 0, 0.0
    for seed, epoch in others:
        other = whole(network(n, seed=seed, epoch=epoch))
        same += int((own == other).sum())
        correlation = torch.corrcoef(torch.stack([own, other]).double())[0, 1]
        extreme = max(extreme, abs(float(correlation)) * math.sqrt(n))
    assert abs(same - len(others)) / math.sqrt(len(others)) < SIGMAS
    assert extreme < SIGMAS


@pytest.mark.parametrize("n", [100, LARGE])
def test_any_number_is_a_seed(n: int) -> None:
    seeds = (0, 1, -1, 1 - 2**63, 2**63 - 1, 2**63, 2**64 - 2)
    orders = [whole(KeyedPermutation(n, seed=seed, epoch=0)).tolist() for seed in seeds]
    assert all(sorted(order) == [*range(n)] for order in orders)
    assert len({tuple(order) for order in orders}) == len(seeds)


def test_a_keyed_order_is_the_same_however_it_is_asked_for() -> None:
    sampler = KeyedRandomSampler(range(LARGE), data_seed=3)
    sampler.set_epoch(2)
    indices = whole(sampler.order())
    assert list(sampler) == indices.tolist()
    backwards = torch.arange(LARGE - 1, -1, -997)
    assert torch.equal(order_of(sampler).take(backwards), indices[backwards])


LAZY = [1, 2, 100, 300, PREFIX - 1, PREFIX, PREFIX + 1, 2 * PREFIX, 123_457, 1_000_003]
ASKED: dict[str, Callable[[int], list[torch.Tensor]]] = {
    "from the front": lambda n: [*torch.arange(min(n, 300)).chunk(3)],
    "from the back": lambda n: [torch.tensor([n - 1]), torch.arange(min(n, 50))],
    "first, then all": lambda n: [torch.tensor([0]), torch.arange(n)],
    "across the prefix": lambda n: [torch.arange(n)[-99::3], torch.tensor([n - 1, 0])],
    "anywhere": lambda n: [torch.randint(n, (99,)) for _ in range(3)],
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_lazy_order_is_torchs_own_bit_by_bit(asked: str) -> None:
    for n in LAZY:
        generator = torch.Generator().manual_seed(n)
        known = torch.randperm(n, generator=torch.Generator().manual_seed(n))
        order = LazyPermutation(n, generator)
        for positions in ASKED[asked](n):
            assert torch.equal(order.take(positions), known[positions]), n


@pytest.mark.parametrize("own_generator", [True, False])
def test_a_lazy_order_leaves_the_generator_where_torchs_sampler_does(own_generator: bool) -> None:
    """Gone through to the end or left early, with the sampler's generator or torch's."""
    for n, ended in product((1, 100, PREFIX + 1, 100_000), (True, False)):
        generators = [torch.Generator().manual_seed(n) if own_generator else None for _ in range(2)]
        torch.manual_seed(n)
        theirs = iter(RandomSampler(range(n), generator=generators[0]))
        first = [*theirs] if ended else [next(theirs)]
        left = [torch.get_rng_state()]
        torch.manual_seed(n)
        order = order_of(RandomSampler(range(n), generator=generators[1]))
        assert order.take(torch.arange(len(first))).tolist() == first
        order.settle(ended=ended)
        left.append(torch.get_rng_state())
        assert torch.equal(*left)
        if own_generator:
            states = [one.get_state() for one in generators if one is not None]
            assert torch.equal(*states), (n, ended)


def test_small_numbers_have_the_order_of_large_ones() -> None:
    """The order is made of int32 where it can be, to take half the memory."""
    for n in (10, 70_000):
        orders = [
            torch.randperm(n, generator=torch.Generator().manual_seed(1), dtype=dtype)
            for dtype in (torch.int32, torch.int64)
        ]
        assert torch.equal(orders[0].long(), orders[1])


def mixed(x: int) -> int:
    """By Python's numbers: 64 bits, signed shifts, without splitmix64's last step."""
    for shift, factor in zip((30, 27), permutation._MULTIPLIERS, strict=True):
        x = permutation._signed((x ^ (x >> shift)) * factor % 2**64)
    return x


NUMBERS = (0, 1, -1, 2**63 - 1, -(2**63), 0x1234567890ABCDEF)


def test_many_numbers_are_mixed_as_one_is() -> None:
    found = permutation._mix(torch.tensor(NUMBERS)).tolist()
    assert found == [mixed(x) for x in NUMBERS]


@pytest.mark.parametrize("size", [1, 2, 3, 317, 2**31, 3_037_000_500])
def test_a_turn_goes_around_by_the_share_that_a_mixed_number_is(size: int) -> None:
    """The largest is the root of 2**63: a table of all numbers that there are."""
    for place in {0, size // 2, size - 1}:
        turned = torch.full((len(NUMBERS),), place)
        permutation._turn(turned, size, torch.tensor(NUMBERS))
        tops = [(x % 2**64) >> 33 for x in NUMBERS]
        assert turned.tolist() == [(place - (top * size >> 31)) % size for top in tops]


def test_an_order_that_torch_would_draw_in_another_way_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a future torch may: here it is our words that change."""
    generator = torch.Generator().manual_seed(1)
    known = torch.randperm(PREFIX + 9, generator=torch.Generator().manual_seed(1))
    own = permutation.words
    monkeypatch.setattr(permutation, "words", lambda one: (word ^ 1 for word in own(one)))
    permutation._is_forward.cache_clear()
    assert not permutation._is_forward()
    order = LazyPermutation(PREFIX + 9, generator)
    assert torch.equal(order.take(torch.arange(5)), known[:5])
    monkeypatch.setattr(permutation, "_is_forward", lambda: True)
    order = LazyPermutation(PREFIX + 9, generator)
    order.take(torch.arange(5))
    with pytest.raises(RuntimeError, match=r"of this epoch differ from torch\.randperm"):
        order.settle(ended=True)
    monkeypatch.undo()
    permutation._is_forward.cache_clear()
    assert permutation._is_forward()


def test_above_the_limit_torch_goes_from_the_back_and_nothing_is_computed_alone() -> None:
    order = LazyPermutation(FORWARD_LIMIT, torch.Generator())
    assert not order._is_prefix(1)
    assert order._thread is None
