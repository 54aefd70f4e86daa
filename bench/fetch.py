"""Batches of a TensorDataset, whose tensors are in memory."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from bench.case import Case, Goal
from bench.libraries import TORCH, Timed, accelerator, digest, timed

SAMPLES, FEATURES = 20_000, 32


def tensors(library: str, *, batch: int) -> Timed:
    """Iterate over a shuffled epoch; measures seconds per batch."""
    x = torch.arange(SAMPLES * FEATURES, dtype=torch.float32).view(SAMPLES, FEATURES)
    y = torch.arange(SAMPLES)
    steps = -(-SAMPLES // batch)
    if library == TORCH:

        def select() -> None:
            for rows in torch.split(torch.randperm(SAMPLES), batch):
                x.index_select(0, rows), y.index_select(0, rows)

        return Timed(lambda: None, lambda: timed(select) / steps)
    made = accelerator(library, use_seedable_sampler=True, data_seed=1)
    loader = made.prepare(DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True))

    def go_through() -> None:
        for _ in loader:
            pass

    def answer() -> list[str]:
        batches = list(loader)
        return [digest(torch.cat([part[column] for part in batches])) for column in (0, 1)]

    return Timed(answer, lambda: timed(go_through) / steps)


CASES = [
    Case(
        name="fetch",
        theme="fetch",
        what="A batch of a TensorDataset, shuffled",
        program=tensors,
        unit="s",
        sizes=[{"batch": batch} for batch in (16, 64, 256)],
        quick=[{"batch": 256}],
        floor_is="index_select of each tensor",
        goal=Goal(kind="faster", limit=20, at={"batch": 256}),
    )
]
