"""The samples of a rank: the indices of an epoch, and the time until the first batch.

The world is simulated: one process computes the part of one rank, without the other ranks. In a
real world each rank does the same, without communication.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from bench.case import Case, Goal, Side
from bench.libraries import TORCH, Numbers, Timed, accelerator, digest, module, peak, timed

BATCH = 32
SEED = 1


def epoch(library: str, *, samples: int, world: int, order: str = "exact") -> Timed:
    """Iterate over the indices of an epoch on the last rank, batch by batch."""
    if library == TORCH:
        return Timed(lambda: None, lambda: timed(lambda: _rows(samples, world, order)))
    home = module(library, "data_loader")
    data = Numbers(samples)
    kind = home.KeyedRandomSampler if order == "keyed" else home.SeedableRandomSampler
    batches = home.BatchSamplerShard(
        BatchSampler(kind(data, data_seed=SEED), BATCH, drop_last=False), world, world - 1
    )

    def answer() -> Any:
        batches.batch_sampler.sampler.set_epoch(0)
        return summary(chain.from_iterable(batches), order)

    return Timed(answer, lambda: timed(lambda: exhaust(batches)))


def exhaust(items: Iterable[Any]) -> None:
    """Iterate over all items."""
    for _ in items:
        pass


def summary(indices: Any, order: str) -> Any:
    """Return a checksum of an exact order; otherwise the numbers of indices and of duplicates."""
    found = torch.tensor(list(indices))
    if order == "exact":
        return digest(found)
    return {"indices": len(found), "distinct": len(torch.unique(found))}


def _rows(samples: int, world: int, order: str) -> None:
    """Do the minimum: draw an order, if it is shuffled, and make the rows of one rank as lists."""
    steps = samples // (BATCH * world)
    if order == "exact":
        whole = torch.randperm(samples, dtype=torch.int32)[: steps * world * BATCH]
        rows = whole.view(steps, world, BATCH)[:, world - 1]
    else:
        rows = torch.arange(steps)[:, None] * (world * BATCH) + torch.arange(BATCH)
    exhaust(rows.tolist())


def loader(library: str, *, samples: int, world: int, order: str) -> Any:
    """Return a prepared data loader of the last rank; the floor is torch's loader, in order."""
    plain = DataLoader(
        Numbers(samples), batch_size=BATCH, shuffle=order != "in order", collate_fn=list
    )
    if library == TORCH:
        batches = BatchSampler(SequentialSampler(plain.dataset), BATCH, drop_last=False)  # type: ignore[arg-type]  # it has a length
        return DataLoader(plain.dataset, batch_sampler=batches, collate_fn=list)
    accelerator(library)  # initializes the state of the process
    return module(library, "data_loader").prepare_data_loader(
        plain,
        device=torch.device("cpu"),
        num_processes=world,
        process_index=world - 1,
        put_on_device=True,
        use_seedable_sampler=True,
        data_seed=SEED,
        **({"shuffle": "keyed"} if order == "keyed" else {}),
    )


class First:
    """Start an epoch, and read its first batch."""

    def __init__(self, library: str, *, of: str, order: str, **size: int) -> None:
        """Args: of: `time` or `memory`; the others: see `loader`."""
        self._loader = loader(library, order=order, **size)
        self._of = of
        self._order = order
        self._batch: Any = None
        self._running: Any = None

    def answer(self) -> Any:
        """Return the batch; if orders differ, its numbers of indices and of distinct indices."""
        if self._batch is None:
            self.sample()
        return None if self._order == "in order" else summary(self._batch, self._order)

    def sample(self) -> float:
        """Return the seconds until the first batch, or the bytes of memory that were needed."""
        self._running = None
        return timed(self._take) if self._of == "time" else peak(self._take_and_leave)

    def _take(self) -> None:
        self._running = iter(self._loader)
        self._batch = next(self._running)

    def _take_and_leave(self) -> None:
        self._take()
        self._running = None  # waits for an order that is still being drawn


_EPOCH = "Indices of an epoch on one rank, shuffled"
_FIRST = "First batch of a shuffled epoch"
_EPOCHS = [
    *({"samples": 10**7, "world": world} for world in (8, 64, 512)),
    *({"samples": samples, "world": 512} for samples in (10**5, 10**6)),
]
_FIRSTS = [{"samples": samples, "world": 8} for samples in (10**6, 10**7, 10**8)]
_QUICK_FIRSTS = [{"samples": 10**5, "world": 8}]
CASES = [
    *(
        Case(
            name=f"epoch-{order}",
            theme="order",
            what=f"{_EPOCH}, {text}",
            program=epoch,
            unit="s",
            sizes=_EPOCHS,
            quick=[{"samples": 10**5, "world": 64}],
            theirs=Side("accelerate", {"order": "exact" if order == "exact" else "any"}),
            ours=Side("runtime", {"order": order}),
            floor=Side("torch", {"order": order}),
            floor_is=floor_is,
            goal=Goal(kind="faster", limit=limit, at={"samples": 10**7, "world": 512}),
        )
        for order, text, floor_is, limit in (
            ("keyed", "keyed order", "the rank's positions as lists", 500),
            ("exact", "torch's order", "torch.randperm, and the rank's rows of it as lists", 3),
        )
    ),
    *(
        Case(
            name=f"first-{order}-{of}",
            theme="order",
            what=f"{_FIRST}, {text}: {of}",
            program=First,
            unit=unit,
            sizes=_FIRSTS,
            quick=_QUICK_FIRSTS,
            theirs=Side("accelerate", {"of": of, "order": "exact" if order == "exact" else "any"}),
            ours=Side("runtime", {"of": of, "order": order}),
            floor=Side("torch", {"of": of, "order": "in order"}),
            floor_is="torch's own loader, in order",
            goal=Goal(kind="faster", limit=limit, at={"samples": 10**8, "world": 8}),
            fresh=of == "memory",
        )
        for order, text, of, unit, limit in (
            ("keyed", "keyed order", "time", "s", 1000),
            ("keyed", "keyed order", "memory", "B", 100),
            ("exact", "torch's order", "time", "s", 100),
            ("exact", "torch's order", "memory", "B", 10),
        )
    ),
    Case(
        name="first-keyed-billion",
        theme="order",
        what=f"{_FIRST}, keyed order, 1e9 samples: memory",
        program=First,
        unit="B",
        sizes=[{"samples": 10**9, "world": 8}],
        quick=[{"samples": 10**9, "world": 8}],
        theirs=None,  # a list of 1e9 numbers takes 46 GB
        ours=Side("runtime", {"of": "memory", "order": "keyed"}),
        floor=Side("torch", {"of": "memory", "order": "in order"}),
        floor_is="torch's own loader, in order",
        goal=Goal(kind="in all", limit=50e6, at={"samples": 10**9, "world": 8}),
        fresh=True,
    ),
]
