"""Random orders that are not written out: what is asked for is computed when it is asked for.

`LazyPermutation` is torch.randperm's own order, bit for bit. `KeyedPermutation` is another order,
in constant time and memory for each index.
"""

import math
import threading
from collections.abc import Iterator
from functools import cache
from itertools import islice

import torch

PREFIX = 2**16  # positions that are computed one by one before the whole order is needed
# torch's randperm draws a 32-bit word for each position of a set smaller than this, from the front
# (aten/src/ATen/native/TensorFactories.cpp, randperm_cpu); above, it goes from the back.
FORWARD_LIMIT = (2**32 - 1) // 20
_WORDS = 2**10  # pairs of words that are drawn at a time


class LazyPermutation:
    """The order that torch.randperm(n, generator=generator) has, without its start-up cost.

    randperm exchanges position i with one drawn from i to n-1, for i from 0: the first positions
    are final at once. They are computed alone, while a thread lets torch make the whole order.
    If this torch's randperm does it in another way, nothing is computed alone.

    Memory: 4 bytes a sample once the whole order is there, 8 from 2**31 samples on, for each
    process; torch's RandomSampler has 8, and a list of Python's numbers.
    """

    def __init__(self, n: int, generator: torch.Generator) -> None:
        """Args: n: length, >= 0; generator: its state is read, and moved by `settle` only."""
        self._n = n
        self._generator = generator
        self._start = generator.get_state()
        self._whole: torch.Tensor | None = None
        self._after: torch.Tensor | None = None  # the generator's state behind the whole order
        self._thread: threading.Thread | None = None
        self._prefix: list[int] = []
        self._growth = forward(n, self._start)

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """The indices at some positions: int64 (positions,) to int64 (positions,)."""
        if self._whole is None and self._is_prefix(int(positions.max()) + 1):
            return torch.tensor(self._prefix)[positions]
        return self._all()[positions].long()

    def _is_prefix(self, stop: int) -> bool:
        """Whether the positions before `stop` are there, or can be had one by one."""
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
                f"an epoch was begun in another order than torch.randperm({self._n}) of torch "
                f"{torch.__version__} has: use shuffle='keyed', and report it"
            )
            raise RuntimeError(sentence)
        self._prefix = []  # which was given
        return self._whole

    def _make(self) -> None:
        generator = _cloned(self._start)
        small = torch.int32 if self._n < 2**31 else torch.int64  # the order is the same
        whole = torch.randperm(self._n, generator=generator, dtype=small)
        self._after = generator.get_state()
        self._whole = whole

    def state(self) -> torch.Tensor:
        """The generator's, from which this order follows."""
        return self._start

    def settle(self, *, ended: bool) -> None:
        """Move the generator to where torch's RandomSampler leaves it.

        Args:
            ended: whether its order was gone through to the end: it then draws a second one.
        """
        self._all()
        state = self._after
        assert state is not None  # noqa: S101  # for mypy
        if ended:
            later = _cloned(state)
            torch.randperm(self._n, generator=later, dtype=torch.int32)
            state = later.get_state()
        self._generator.set_state(state)


def _cloned(state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def words(generator: torch.Generator) -> Iterator[int]:
    """The 32-bit words of torch's Mersenne twister, in order."""
    while True:
        # A 64-bit number is two words, the first on top.
        drawn = torch.empty(_WORDS, dtype=torch.int64)
        for pair in drawn.random_(-(2**63), None, generator=generator).tolist():
            yield (pair >> 32) & 0xFFFFFFFF
            yield pair & 0xFFFFFFFF


def forward(n: int, state: torch.Tensor) -> Iterator[int]:
    """The indices of torch.randperm(n) from a generator's state, one by one."""
    moved: dict[int, int] = {}  # position -> the index there, where it is not its own
    for position, word in enumerate(islice(words(_cloned(state)), n)):
        other = word % (n - position) + position
        yield moved.get(other, other)
        moved[other] = moved.pop(position, position)


@cache
def _is_forward() -> bool:
    """Whether this torch's randperm is the one that `forward` knows; found out once, by 64 indices.

    Its own branches depend on n: it is asked for the smallest n that matters. What is computed for
    a larger one is compared when the whole order is there.
    """
    n, state = PREFIX + 1, torch.Generator().manual_seed(1).get_state()
    known = torch.randperm(n, generator=_cloned(state))
    return list(islice(forward(n, state), 64)) == known[:64].tolist()


SMALL = 2**16  # up to it, a keyed order is torch's own from a keyed seed, written out
ROUNDS = 8


class KeyedPermutation:
    """A random order of n in which index p costs the same whatever n, p and the world are.

    A Feistel network on a position's row and column in a table, with the splitmix64 finalizer
    (Steele et al., 2014) as its round function, walked until it falls below n (Black and Rogaway,
    2002): a bijection whatever the round function. Four rounds with random round functions cannot
    be told from a random permutation (Luby and Rackoff, 1988); these are not quite random, so there
    are twice as many. Small sets would show patterns and are cheap to write out: they are.
    """

    def __init__(self, n: int, *, seed: int, epoch: int) -> None:
        """Args: n: length, >= 0; seed and epoch: any numbers, of which 64 bits count."""
        self._n = n
        key = _mix_number(_mix_number(seed) ^ epoch)
        self._whole: torch.Tensor | None = None
        if n <= SMALL:
            generator = torch.Generator().manual_seed(key & (2**63 - 1))
            self._whole = torch.randperm(n, generator=generator)
        # Of a table that n just fits in: it has less than a row more than n.
        self._rows = math.isqrt(max(n - 1, 0)) + 1
        self._columns = -(-max(n, 1) // self._rows)
        self._keys = [_signed(_mix_number(key + round_)) for round_ in range(ROUNDS)]

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """The indices at some positions: int64 (positions,) to int64 (positions,)."""
        if self._whole is not None:
            return self._whole[positions]
        found = self._permuted(positions)
        outside = (found >= self._n).nonzero().flatten()
        while len(outside):
            found[outside] = again = self._permuted(found[outside])
            outside = outside[again >= self._n]
        return found

    def state(self) -> None:
        """Seed and epoch say all."""

    def settle(self, *, ended: bool) -> None:
        """Nothing is left behind."""

    def _permuted(self, positions: torch.Tensor) -> torch.Tensor:
        """A bijection of [0, rows * columns): int64 (positions,) to int64 (positions,)."""
        row = positions // self._columns
        column = positions - row * self._columns
        for round_ in range(0, ROUNDS, 2):
            _turn(row, self._rows, _mix(column ^ self._keys[round_]))
            _turn(column, self._columns, _mix(row ^ self._keys[round_ + 1]))
        return row.mul_(self._columns).add_(column)


_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64
_SHIFTS = (30, 27, 31)
_TOP = 31  # bits of a mixed number that say how far: its product with a size has to fit in 63


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The splitmix64 finalizer of 64-bit numbers, in place; torch shifts the sign in from the left.

    Without its last step, which mixes the lower half alone: the top bits are used.
    """
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x = x.bitwise_xor_(x >> shift).mul_(_signed(multiplier))
    return x


def _turn(x: torch.Tensor, size: int, mixed: torch.Tensor) -> None:
    """Take from each of `x`, around in [0, size), the share of size that its mixed number is.

    A remainder would take three times as long (Lemire, 2019).
    """
    share = mixed.bitwise_right_shift_(64 - _TOP).bitwise_and_(2**_TOP - 1)
    x.sub_(share.mul_(size).bitwise_right_shift_(_TOP))
    x.add_((x >> 63).bitwise_and_(size))


def _mix_number(x: int) -> int:
    """The finalizer of one number, after the generator's own step; in [0, 2**64)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x = (x ^ (x >> shift)) * multiplier % 2**64
    return x ^ (x >> _SHIFTS[-1])


def _signed(x: int) -> int:
    """A 64-bit number as two's complement reads it."""
    return x - 2**64 if x >= 2**63 else x
