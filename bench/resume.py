"""Going on within an epoch: how soon the first batch is there, and what is done to get there.

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

ITEM = 100e-6  # seconds that reading an item of a stream takes, as decoding a small one does
SMALL = 10**5  # up to so many samples, what follows a resume is compared with a whole pass


class Begun:
    """Begins an epoch somewhere; what is left of it is not waited for while the clock runs."""

    def __init__(self, loader: Callable[[], Any]) -> None:
        """Args: loader: makes the one that begins there."""
        self._loader = loader
        self._running: Any = None

    def first(self) -> Any:
        """The first batch."""
        self._running = iter(self._loader())
        return next(self._running)

    def seconds(self) -> float:
        """Until it is there."""
        self._running = None
        return timed(self.first)


def mapped(library: str, *, samples: int, world: int, position: float, order: str) -> Timed:
    """Skip batches of a map-style dataset, and take the next one."""
    loader = orders.loader(library, samples=samples, world=world, order=order)
    batches = round(len(loader) * position)

    skip = module(library, "data_loader").skip_first_batches
    begun = Begun(lambda: skip(loader, batches))

    def answer() -> Any:
        found = begun.first()
        if samples <= SMALL and found != next(islice(loader, batches, None)):
            sentence = f"{library} goes on with {found}, which is not what comes next"
            raise AssertionError(sentence)
        return found if order in ("in order", "exact") else {"samples": len(found)}

    return Timed(answer, begun.seconds)


class Stream(IterableDataset[int]):
    """0 to n-1, each read at a cost; counts what was read."""

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
    """A stream that can begin anywhere: the optional protocol of this runtime."""

    def iter_from(self, start: int) -> Iterator[int]:
        """The items from one on."""
        return self._from(start)


def streamed(
    library: str, *, samples: int, world: int, position: float, of: str, seeks: bool = False
) -> Timed:
    """Skip batches of a stream, and take the next one.

    Args:
        library: whose.
        samples: of the stream.
        world: ranks, all of which are given the same stream.
        position: where to begin.
        of: what is measured: `time`, or how many samples are `read` or `collated` and moved.
        seeks: whether the stream can begin anywhere.
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


AT_ONCE = 1.5  # times the cost of a start at 0: the same, with a margin for the clock
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
