"""Resuming within an epoch: the time until the first batch, and the samples read for it.

The world is simulated, as in `order`. A position is a fraction of the epoch.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from bench import order as orders
from bench.case import Case, Goal, Side
from bench.libraries import Timed, accelerator, module, timed

ITEM = 100e-6  # seconds to read an item of a stream, as for decoding a small sample
SMALL = 10**5  # up to this many samples, the rest of the epoch is compared with a full epoch


class Begun:
    """Starts an epoch at a position; the end of the previous epoch is not measured."""

    def __init__(self, loader: Callable[[], Any]) -> None:
        """Args: loader: makes a data loader that starts at the position."""
        self._loader = loader
        self._running: Any = None

    def first(self) -> Any:
        """Return the first batch."""
        self._running = iter(self._loader())
        return next(self._running)

    def seconds(self) -> float:
        """Return the seconds until the first batch."""
        self._running = None
        return timed(self.first)


def mapped(library: str, *, samples: int, world: int, position: float, order: str) -> Timed:
    """Skip batches of a map-style dataset, and read the next one."""
    loader = orders.loader(library, samples=samples, world=world, order=order)
    batches = round(len(loader) * position)

    skip = module(library, "data_loader").skip_first_batches
    begun = Begun(lambda: skip(loader, batches))

    def answer() -> Any:
        found = begun.first()
        if samples <= SMALL and found != next(islice(loader, batches, None)):
            sentence = f"{library} continues with {found}, which are not the next samples"
            raise AssertionError(sentence)
        return found if order in ("in order", "exact") else {"samples": len(found)}

    return Timed(answer, begun.seconds)


class Stream(IterableDataset[int]):
    """The numbers 0 to n-1, each of which takes a time to read; counts the items that were read."""

    def __init__(self, n: int, seconds: float) -> None:
        self.n = n
        self.seconds = seconds
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        return self._from(0)

    def _from(self, start: int) -> Iterator[int]:
        for item in range(start, self.n):
            until = time.perf_counter() + self.seconds
            while time.perf_counter() < until:
                pass
            self.read += 1
            yield item


class Seekable(Stream):
    """A stream that can start anywhere, by the optional protocol of this runtime."""

    def iter_from(self, start: int) -> Iterator[int]:
        """Yield the items from `start` on."""
        return self._from(start)


def streamed(
    library: str, *, samples: int, world: int, position: float, of: str, seeks: bool = False
) -> Timed:
    """Skip batches of a stream, and read the next one.

    Args:
        library: the library.
        samples: the number of samples of the stream.
        world: the world size; all ranks have the same stream.
        position: the fraction of the epoch to start at.
        of: the measurement: `time`, or the number of samples that are `read` or `collated`.
        seeks: whether the stream can start anywhere.
    """
    accelerator(library)
    data = (Seekable if seeks else Stream)(samples, ITEM if of == "time" else 0)
    collated = 0

    def collate(items: list[int]) -> Any:
        nonlocal collated
        collated += len(items)
        return default_collate(items)

    loader = module(library, "data_loader").prepare_data_loader(
        DataLoader(data, batch_size=10, collate_fn=collate),
        device=torch.device("cpu"),
        num_processes=world,
        process_index=world - 1,
        put_on_device=True,
        dispatch_batches=False,
    )
    batches = round(samples / world / 10 * position)

    skip = module(library, "data_loader").skip_first_batches
    begun = Begun(lambda: skip(loader, batches))
    counts: dict[str, Callable[[], int]] = {"read": lambda: data.read, "collated": lambda: collated}

    def sample() -> float:
        if of == "time":
            return begun.seconds()
        before = counts[of]()
        begun.first()
        return float(counts[of]() - before)

    return Timed(lambda: begun.first().tolist(), sample)


AT_ONCE = 1.5  # times the cost of a start at position 0, so the same within a margin
_RESUME = "Resume within an epoch of a map-style dataset"
_STREAM = "Resume within a stream"
_POSITIONS = [
    *({"samples": 10**7, "world": 8, "position": position} for position in (0.0, 0.5, 0.9)),
    *({"samples": samples, "world": 8, "position": 0.9} for samples in (10**5, 10**6)),
]
_STREAMS = [{"samples": 4000, "world": 8, "position": position} for position in (0.0, 0.5, 0.9)]
CASES = [
    *(
        Case(
            name=f"resume-{order.replace(' ', '-')}",
            theme="resume",
            what=f"{_RESUME}, {text}",
            program=mapped,
            unit="s",
            sizes=_POSITIONS,
            quick=[{"samples": 10**5, "world": 8, "position": 0.9}],
            theirs=Side("accelerate", {"order": theirs}),
            ours=Side("runtime", {"order": order}),
            floor=Side("runtime", {"order": order, "position": 0.0}, computes_less=True),
            floor_is="the same at position 0",
            goal=Goal(kind=kind, limit=limit, at=_POSITIONS[2]),
        )
        for order, text, theirs, kind, limit in (
            ("in order", "in order", "in order", "of floor", AT_ONCE),
            ("keyed", "keyed order", "any", "of floor", AT_ONCE),
            ("exact", "torch's order", "exact", "faster", 4),
        )
    ),
    Case(
        name="resume-stream-seek",
        theme="resume",
        what=f"{_STREAM} that can start anywhere (`iter_from`)",
        program=streamed,
        unit="s",
        sizes=_STREAMS,
        quick=_STREAMS[2:],
        theirs=Side("accelerate", {"of": "time", "seeks": True}),
        ours=Side("runtime", {"of": "time", "seeks": True}),
        floor=Side("runtime", {"of": "time", "seeks": True, "position": 0.0}, computes_less=True),
        floor_is="the same at position 0",
        goal=Goal(kind="of floor", limit=AT_ONCE, at=_STREAMS[2]),
    ),
    Case(
        name="resume-stream",
        theme="resume",
        what=f"{_STREAM} that can only be iterated",
        program=streamed,
        unit="s",
        sizes=_STREAMS,
        quick=_STREAMS[2:],
        theirs=Side("accelerate", {"of": "time"}),
        ours=Side("runtime", {"of": "time"}),
        floor=None,
    ),
    *(
        Case(
            name=f"resume-stream-{of}",
            theme="resume",
            what=f"{_STREAM} that can only be iterated: samples {of} by one rank of 8",
            program=streamed,
            unit="",
            sizes=_STREAMS,
            quick=_STREAMS[2:],
            theirs=Side("accelerate", {"of": of}),
            ours=Side("runtime", {"of": of}),
            floor=None,
            goal=Goal(kind="faster", limit=8, at=_STREAMS[2]),
        )
        for of in ("read", "collated")
    ),
]
