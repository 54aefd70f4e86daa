"""Two epochs of eight steps; the first attempt waits in its sixth step until it is killed."""

import os
import signal
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator

KILLED_AT = 6


def main() -> None:
    attempt, rank = os.environ["ACCELERATEDJOB_ATTEMPT"], int(os.environ["RANK"])
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    numbers = torch.arange(32.0).unsqueeze(1)
    loader = DataLoader(TensorDataset(numbers), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in accelerator.epochs(2):
        for (batch,) in loader:
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            step = accelerator.completed_steps
            print(f"attempt {attempt} rank {rank} epoch {epoch} step {step}", flush=True)  # noqa: T201  # read by the test
            if attempt == "0" and rank == 1 and step == KILLED_AT:
                if "KILLS_ITSELF" in os.environ:  # the first process of a container cannot
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(600)


if __name__ == "__main__":
    main()
