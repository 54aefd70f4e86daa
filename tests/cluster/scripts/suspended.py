"""Two epochs of many steps; the first attempt trains slowly, and the last one tells the bits."""

import os
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator

SAMPLES, BATCH, EPOCHS, WORLD = 400, 2, 2, 2
LAST_STEP = EPOCHS * SAMPLES // (BATCH * WORLD)
SECONDS = 0.5  # of a slow step: the first attempt takes minutes, and is suspended before


def main() -> None:
    attempt = os.environ.get("ACCELERATEDJOB_ATTEMPT", "-")
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    numbers = torch.arange(4.0 * SAMPLES).reshape(SAMPLES, 4) / (4 * SAMPLES)
    loader = DataLoader(TensorDataset(numbers), batch_size=BATCH, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in accelerator.epochs(EPOCHS):
        for (batch,) in loader:
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            print(f"attempt {attempt} step {accelerator.completed_steps}", flush=True)  # noqa: T201  # read by the test
            if attempt == "0":
                time.sleep(SECONDS)
    bits = [value.hex() for one in model.parameters() for value in one.flatten().tolist()]
    print("bits", *bits, flush=True)  # noqa: T201  # as above


if __name__ == "__main__":
    main()
