"""Random permutations whose elements are computed on demand.

`LazyPermutation` is exactly the permutation of torch.randperm. `KeyedPermutation` is a different
permutation, which takes constant time and memory per index.
"""

import math
import threading
from collections.abc import Iterator
from functools import cache
from itertools import islice

import torch

PREFIX = 2**16  # the first positions, which can be computed one by one before the whole permutation
# For an n below this limit, torch.randperm draws a 32-bit word for each position, from the first to
# the last (aten/src/ATen/native/TensorFactories.cpp, randperm_cpu); otherwise from the last.
FORWARD_LIMIT = (2**32 - 1) // 20
_WORDS = 2**10  # the number of pairs of words that are drawn at once


class LazyPermutation:
    """The permutation torch.randperm(n, generator=generator) without its start-up time.

    For i = 0, 1, ..., randperm swaps position i with a random position from i to n-1, so the first
    positions are final immediately. They are computed separately while a thread computes the whole
    permutation with torch. If the installed torch's randperm works differently, nothing is computed
    separately.

    The whole permutation takes 4 bytes per sample, or 8 from 2**31 samples on, in each process.
    Torch's RandomSampler takes 8 bytes per sample and a list of Python integers.
    """

    def __init__(self, n: int, generator: torch.Generator) -> None:
        """Create the permutation.

        Args:
            n: the length, >= 0.
            generator: the generator whose state defines the permutation; only `settle` changes it.
        """
        self._n = n
        self._generator = generator
        self._start = generator.get_state()
        self._whole: torch.Tensor | None = None
        self._after: torch.Tensor | None = None  # the generator's state after randperm
        self._thread: threading.Thread | None = None
        self._prefix: list[int] = []
        self._growth = forward(n, self._start)

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the indices at some positions: int64 (positions,) to int64 (positions,)."""
        if self._whole is None and self._is_prefix(int(positions.max()) + 1):
            return torch.tensor(self._prefix)[positions]
        return self._all()[positions].long()

    def _is_prefix(self, stop: int) -> bool:
        """Whether all positions before `stop` can be computed one by one; compute them if so."""
        if self._n <= PREFIX or self._n >= FORWARD_LIMIT or stop > PREFIX or not _is_forward():
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, daemon=True)
            self._thread.start()
        self._prefix += islice(self._growth, max(stop - len(self._prefix), 0))
        return True

    def _all(self) -> torch.Tensor:
        if self._thread is not None:
            self._thread.join()
        if self._whole is None:
            self._make()
        assert self._whole is not None  # noqa: S101  # for mypy
        if self._prefix and self._prefix != self._whole[: len(self._prefix)].tolist():
            sentence = (
                f"the first indices of this epoch differ from torch.randperm({self._n}) of torch "
                f"{torch.__version__}: use shuffle='keyed', and report this as a bug"
            )
            raise RuntimeError(sentence)
        self._prefix = []
        return self._whole

    def _make(self) -> None:
        generator = _cloned(self._start)
        whole = torch.randperm(self._n, generator=generator, dtype=_dtype(self._n))
        self._after = generator.get_state()
        self._whole = whole

    def state(self) -> torch.Tensor:
        """Return the generator state that defines this permutation."""
        return self._start

    def settle(self, *, ended: bool) -> None:
        """Set the generator to the state in which torch's RandomSampler leaves it.

        Args:
            ended: whether the sampler was iterated to the end; it then draws a second permutation.
        """
        self._all()
        state = self._after
        assert state is not None  # noqa: S101  # for mypy
        if ended:
            later = _cloned(state)
            torch.randperm(self._n, generator=later, dtype=_dtype(self._n))
            state = later.get_state()
        self._generator.set_state(state)


def _dtype(n: int) -> torch.dtype:
    """Return the smallest dtype of a permutation of `n` indices, which does not depend on it."""
    return torch.int32 if n < 2**31 else torch.int64


def _cloned(state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def words(generator: torch.Generator) -> Iterator[int]:
    """Yield the 32-bit words of torch's Mersenne Twister."""
    while True:
        # A 64-bit number has two words; the first one is in the upper bits.
        drawn = torch.empty(_WORDS, dtype=torch.int64)
        for pair in drawn.random_(-(2**63), None, generator=generator).tolist():
            yield (pair >> 32) & 0xFFFFFFFF
            yield pair & 0xFFFFFFFF


def forward(n: int, state: torch.Tensor) -> Iterator[int]:
    """Yield the indices of torch.randperm(n) for a generator state, one by one."""
    moved: dict[int, int] = {}  # position -> index, for the positions that were swapped
    for position, word in enumerate(islice(words(_cloned(state)), n)):
        other = word % (n - position) + position
        yield moved.get(other, other)
        moved[other] = moved.pop(position, position)


@cache
def _is_forward() -> bool:
    """Whether `forward` agrees with the installed torch.randperm in the first 64 indices.

    randperm's algorithm depends on n, so the smallest relevant n is tested, once. For a larger n,
    the computed indices are compared when the whole permutation is available.
    """
    n, state = PREFIX + 1, torch.Generator().manual_seed(1).get_state()
    known = torch.randperm(n, generator=_cloned(state))
    return list(islice(forward(n, state), 64)) == known[:64].tolist()


SMALL = 2**16  # up to this length, a keyed permutation is torch.randperm with a keyed seed
ROUNDS = 8


class KeyedPermutation:
    """A random permutation of n indices that computes each index in constant time and memory.

    The position is written as row and column of a table. A Feistel network permutes them, with the
    splitmix64 finalizer (Steele et al., 2014) as its round function. It is applied again until the
    result is below n (cycle walking: Black and Rogaway, 2002). This is a bijection for every round
    function. With random round functions, four rounds cannot be distinguished from a random
    permutation (Luby and Rackoff, 1988); the finalizer is not perfectly random, so there are twice
    as many. For a small n the result would show patterns, so torch.randperm is used.
    """

    def __init__(self, n: int, *, seed: int, epoch: int) -> None:
        """Create the permutation.

        Args:
            n: the length, >= 0.
            seed: the seed, an integer of which the lowest 64 bits are used.
            epoch: the number of the epoch, likewise.
        """
        self._n = n
        key = _mix_number(_mix_number(seed) ^ epoch)
        self._whole: torch.Tensor | None = None
        if n <= SMALL:
            generator = torch.Generator().manual_seed(key & (2**63 - 1))
            self._whole = torch.randperm(n, generator=generator)
        # The smallest table with this number of rows: it has less than one row more than n.
        self._rows = math.isqrt(max(n - 1, 0)) + 1
        self._columns = -(-max(n, 1) // self._rows)
        self._keys = [_signed(_mix_number(key + round_)) for round_ in range(ROUNDS)]

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the indices at some positions: int64 (positions,) to int64 (positions,)."""
        if self._whole is not None:
            return self._whole[positions]
        found = self._permuted(positions)
        outside = (found >= self._n).nonzero().flatten()
        while len(outside):
            found[outside] = again = self._permuted(found[outside])
            outside = outside[again >= self._n]
        return found

    def state(self) -> None:
        """Return None: the order depends on the seed and the epoch only."""

    def settle(self, *, ended: bool) -> None:
        """Do nothing: no generator is used."""

    def _permuted(self, positions: torch.Tensor) -> torch.Tensor:
        """Permute [0, rows * columns): int64 (positions,) to int64 (positions,)."""
        row = positions // self._columns
        column = positions - row * self._columns
        for round_ in range(0, ROUNDS, 2):
            _turn(row, self._rows, _mix(column ^ self._keys[round_]))
            _turn(column, self._columns, _mix(row ^ self._keys[round_ + 1]))
        return row.mul_(self._columns).add_(column)


_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # the constants of splitmix64
_SHIFTS = (30, 27, 31)
_TOP = 31  # bits of a mixed number that `_turn` uses: times a size, they must fit in 63 bits


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Apply the splitmix64 finalizer to 64-bit numbers in place and return them.

    Torch's right shift is arithmetic, so the result differs from splitmix64's. The finalizer's last
    step is left out because it changes only the lower half, and only the top bits are used.
    """
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x = x.bitwise_xor_(x >> shift).mul_(_signed(multiplier))
    return x


def _turn(x: torch.Tensor, size: int, mixed: torch.Tensor) -> None:
    """Subtract from each x, modulo size, an offset in [0, size) that its mixed number selects.

    The offset is the product of the size and the number's top bits as a fraction, which takes a
    third of the time of a remainder (Lemire, 2019).
    """
    share = mixed.bitwise_right_shift_(64 - _TOP).bitwise_and_(2**_TOP - 1)
    x.sub_(share.mul_(size).bitwise_right_shift_(_TOP))
    x.add_((x >> 63).bitwise_and_(size))


def _mix_number(x: int) -> int:
    """Return the splitmix64 output for the state x, in [0, 2**64)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x = (x ^ (x >> shift)) * multiplier % 2**64
    return x ^ (x >> _SHIFTS[-1])


def _signed(x: int) -> int:
    """Return the value in two's complement of an unsigned 64-bit number."""
    return x - 2**64 if x >= 2**63 else x
