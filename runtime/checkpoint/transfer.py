"""Copies the bytes of storages to CPU memory."""

import ctypes
from collections import defaultdict

import torch

from runtime.checkpoint.lanes import Lane, Mark, Pair
from runtime.checkpoint.threads import each

# Threads share the copies in ranges of this size: the C library writes a range of that size past
# the caches, which takes half of the time, and a thread that is late delays the others little.
_RANGE = 2**25  # bytes
_SMALL = 2**20  # bytes; smaller storages are copied at once, because threads would cost more
_Range = tuple[int, int, int]  # the address to copy to, the one to copy from, and the bytes


class Transfer:
    """Copies storages to others in CPU memory, as many threads as torch uses at a time."""

    def __init__(self) -> None:
        """Begin without a storage."""
        self._ranges: list[_Range] = []
        self._pairs: dict[tuple[Lane, bool], list[Pair]] = defaultdict(list)

    def add(self, source: torch.UntypedStorage, target: torch.UntypedStorage) -> None:
        """Copy a storage; its values may change, and the copy is used, only after `complete`.

        Args:
            source: the storage.
            target: the storage to copy to, in CPU memory and of the same size.
        """
        if source.device.type != "cpu":
            _bytes(target).copy_(_bytes(source))
        elif source.nbytes() < _SMALL:
            ctypes.memmove(target.data_ptr(), source.data_ptr(), source.nbytes())
        else:
            self._ranges += _divided(target.data_ptr(), source.data_ptr(), source.nbytes())

    def add_to(
        self,
        lane: Lane,
        source: torch.UntypedStorage,
        target: torch.UntypedStorage,
        *,
        beside: bool,
    ) -> None:
        """Copy a storage by a lane.

        Args:
            lane: a lane of the storage's device.
            source: the storage.
            target: the storage to copy to, in memory of the lane and of the same size.
            beside: whether it is copied beside what the device does next; see `Lane.copy`.
        """
        self._pairs[lane, beside].append((_bytes(target), _bytes(source)))

    def complete(self) -> list[Mark]:
        """Wait until all storages are copied, except those of lanes; return the ends of these."""
        marks = [
            lane.copy(self._pairs.get((lane, False), ()), self._pairs.get((lane, True), ()))
            for lane in dict.fromkeys(lane for lane, _ in self._pairs)
        ]
        threads = torch.get_num_threads()
        if threads > 1 and len(self._ranges) > 1:
            each(threads, _copy, self._ranges)
        else:
            for one in self._ranges:
                _copy(one)
        return marks


def _bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _divided(to: int, from_: int, bytes_: int) -> list[_Range]:
    """Return the ranges in which a storage is copied."""
    starts = range(0, bytes_, _RANGE)
    return [(to + one, from_ + one, min(_RANGE, bytes_ - one)) for one in starts]


def _copy(one: _Range) -> None:
    ctypes.memmove(*one)  # it releases the GIL
