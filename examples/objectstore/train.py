"""Train on a stream of samples from an object store, or any place that fsspec reads.

Rank 0 reads the stream once and sends each rank its part, whatever the number of processes. A job
that resumes reads on where it stopped: `iter_from` opens the right shard at the right byte.
"""

import argparse

import fsspec
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import set_seed

PIXELS = 64
RECORD = PIXELS + 1  # bytes: an image of 8 x 8 pixels from 0 to 16, and its label


class Shards(IterableDataset):
    """Yields images with their labels from all shards, in the order of their names."""

    def __init__(self, url):
        self.fs, root = fsspec.core.url_to_fs(url)
        self.sizes = {path: self.fs.size(path) for path in sorted(self.fs.glob(f"{root}/*.bin"))}
        if not self.sizes:
            raise SystemExit(f"there is no shard {url}/*.bin: write some with shards.py")

    def __len__(self):
        return sum(self.sizes.values()) // RECORD

    def __iter__(self):
        return self.iter_from(0)

    def iter_from(self, start):
        """Yield what follows the first `start` samples; the loader calls it on a resume."""
        skipped = start * RECORD
        for path, size in self.sizes.items():
            if skipped < size:
                yield from self.read(path, skipped)
            skipped = max(0, skipped - size)

    def read(self, path, offset):
        """Yield the samples of a shard from a byte on."""
        with self.fs.open(path, "rb") as file:
            file.seek(offset)
            while record := file.read(RECORD):
                values = torch.frombuffer(bytearray(record), dtype=torch.uint8)
                yield values[:PIXELS] / 16, values[PIXELS].long()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="URL of the folder with the shards")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="of all processes together")
    args = parser.parse_args()

    set_seed(0)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    model = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model, optimizer, loader = accelerator.prepare(
        model, optimizer, DataLoader(Shards(args.data), args.batch_size)
    )
    for epoch in accelerator.epochs(args.epochs):
        losses = []
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        loss = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        accelerator.print(f"epoch {epoch + 1}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
