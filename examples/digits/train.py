"""Train a small network on scikit-learn's digits: an ordinary Accelerate script.

It runs unchanged in one process (`python train.py`), with `acceleratedjob run job.yaml`, and in the
pods of a cluster, and learns the same with any number of processes.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import set_seed

HELD_OUT = 359  # of 1,797 images; a prime number, so the last batch is always uneven
GOAL = 0.95


def datasets():
    """Return the training images and the held-out images: 8 x 8 pixels, scaled to [0, 1]."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    split = torch.Generator().manual_seed(0)
    return random_split(data, [len(data) - HELD_OUT, HELD_OUT], generator=split)


def evaluate(accelerator, model, loader):
    """Return the accuracy over the held-out images; each counts once, also in several processes."""
    model.eval()
    correct = []
    for images, labels in loader:
        with torch.no_grad():
            predicted = model(images).argmax(dim=1)
        correct.append(accelerator.gather_for_metrics(predicted == labels))
    correct = torch.cat(correct)
    assert len(correct) == HELD_OUT, f"counted {len(correct)} of {HELD_OUT} images"
    return correct.float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--batch-size",
        type=int,
        default=32,
        help="size of the global batch, of all processes together",
    )
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()

    set_seed(0)
    data = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    accelerator = Accelerator(dataloader_config=data)
    print(f"rank {accelerator.process_index} of {accelerator.num_processes} begins")
    train_set, test_set = datasets()
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=args.batch_size)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    model, optimizer, train_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, test_loader, scheduler
    )
    for epoch in accelerator.epochs(args.epochs):
        model.train()
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        accuracy = evaluate(accelerator, model, test_loader)
        loss = accelerator.reduce(loss.detach(), "mean").item()
        accelerator.print(f"epoch {epoch + 1}: loss {loss:.4f} accuracy {accuracy:.3f}")
    accuracy = evaluate(accelerator, model, test_loader)  # a restart may find all epochs done
    if accuracy < GOAL:
        raise SystemExit(f"accuracy {accuracy:.3f} is below {GOAL}")


if __name__ == "__main__":
    main()
