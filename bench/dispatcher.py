"""Batches that rank 0 reads and sends: the time of a step, and the bytes sent."""

from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader

from bench.case import Case, Goal, Side
from bench.libraries import (
    TORCH,
    Numbers,
    Timed,
    accelerator,
    barrier,
    digest,
    joined,
    sent,
    timed,
)

BATCH = 32  # samples per rank and step
STEPS = 40


class _Indices(Numbers):
    """A dataset that returns the indices, so that only the communication is measured."""

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices


def dispatched(library: str, *, processes: int, features: int, of: str) -> Timed:
    """Iterate over an epoch that rank 0 reads.

    Args:
        library: the library; the floor is a scatter of the same number of bytes.
        processes: the world size.
        features: the features per sample, of 4 bytes each.
        of: the measurement per step: `time`, or `bytes` over the loopback interface.
    """
    if library == TORCH:
        return _scattered(features, of)
    x = torch.zeros(BATCH, features)
    made = accelerator(library, dispatch_batches=True)

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        return {"x": x, "y": torch.tensor(indices)}

    data = _Indices(BATCH * STEPS * processes)
    loader = made.prepare(DataLoader(data, batch_size=BATCH, collate_fn=collate))

    def answer() -> str:
        return digest(torch.cat([part["y"] for part in loader]))

    def go_through_loader() -> None:
        for _ in loader:
            pass

    return Timed(answer, lambda: _measured(go_through_loader, of))


def _scattered(features: int, of: str) -> Timed:
    rank, size = joined()
    parts = [torch.zeros(BATCH * features + 2 * BATCH) for _ in range(size)]  # int64 labels

    def go_through() -> None:
        for _ in range(STEPS):
            distributed.scatter(parts[rank], parts if rank == 0 else None, src=0)

    return Timed(lambda: None, lambda: _measured(go_through, of))


def _measured(go_through: Any, of: str) -> float:
    if of == "time":
        return timed(go_through) / STEPS
    barrier()
    before = sent()
    go_through()
    barrier()
    return (sent() - before) / STEPS


_SENT = [
    {"processes": processes, "features": features}
    for processes in (2, 4)
    for features in (16, 4096)  # 2 kB and 512 kB per rank
]
CASES = [
    Case(
        name=f"dispatcher-{of}",
        theme="dispatcher",
        what=f"A step of 32 samples per rank, read by rank 0 for all ranks: {of}",
        program=dispatched,
        unit=unit,
        sizes=_SENT,
        quick=_SENT[1:2],
        theirs=Side("accelerate", {"of": of}),
        ours=Side("runtime", {"of": of}),
        floor=Side("torch", {"of": of}),
        floor_is="a scatter of the same number of bytes",
        goal=Goal(kind=kind, limit=limit, at=_SENT[-1]),
    )
    for of, unit, kind, limit in (("time", "s", "faster", 5), ("bytes", "B", "of floor", 1.2))
]
