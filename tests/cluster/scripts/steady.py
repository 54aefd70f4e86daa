"""A training that goes on for minutes, one short step after the other."""

import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator


def main() -> None:
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.zeros(40_000, 1)), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in accelerator.epochs(1):
        for (batch,) in loader:
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(0.05)  # the rest of the model


if __name__ == "__main__":
    main()
