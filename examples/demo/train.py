"""Train on scikit-learn's digits while a process is killed; the training goes on where it was.

At a step of the first life, rank 1 kills itself, as a crash in native code does. The launchers of
both pods start the processes again in place, and both ranks go on from the newest checkpoint.
"""

import os
import signal

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import set_seed

EPOCHS = 30
BATCH = 32  # of all processes together
KILLED_AT = 905  # of 1,680 steps


def data():
    """Return 1,797 images of 8 x 8 pixels, scaled to [0, 1], and their labels."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    return TensorDataset(images, torch.tensor(digits.target))


def main():
    set_seed(0)
    config = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    accelerator = Accelerator(dataloader_config=config)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer, loader = accelerator.prepare(
        model, optimizer, DataLoader(data(), BATCH, shuffle=True, drop_last=True)
    )
    began_at = None
    for _ in accelerator.epochs(EPOCHS):
        if began_at is None:
            began_at = accelerator.completed_steps
        correct = torch.zeros((), device=accelerator.device)
        for images, labels in loader:
            scores = model(images)
            accelerator.backward(nn.functional.cross_entropy(scores, labels))
            optimizer.step()
            optimizer.zero_grad()
            correct += (scores.argmax(dim=1) == labels).sum()
            is_its_turn = began_at == 0 and accelerator.process_index == 1
            if is_its_turn and accelerator.completed_steps == KILLED_AT:
                os.kill(os.getpid(), signal.SIGKILL)
        accuracy = accelerator.reduce(correct, "sum").item() / (len(loader) * BATCH)
    if accelerator.is_main_process:
        print(f"accuracy {accuracy:.3f} after {accelerator.completed_steps} steps")
        if began_at:
            print(
                f"rank 1 was killed in step {KILLED_AT}; the training went on from the checkpoint "
                f"of step {began_at}, and used each sample once in each epoch"
            )


if __name__ == "__main__":
    main()
