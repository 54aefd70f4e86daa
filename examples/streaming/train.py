"""Train on an iterable dataset that only rank 0 reads.

Rank 0 reads each global batch and sends each rank its part. So a source that cannot be divided,
such as a queue, a socket or a compressed file, is read once for any number of processes.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import gather_object, set_seed

TRAINING = 1440  # of 1,797 images: 45 batches of 32
EPOCHS = 5


class Digits(IterableDataset):
    """Yields images with their labels, and counts how many it has yielded."""

    def __init__(self, part):
        self.images, self.labels = load_digits(return_X_y=True)
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))
        self.indices, self.read = order[part].tolist(), 0

    def __iter__(self):
        for index in self.indices:
            self.read += 1
            image = torch.tensor(self.images[index], dtype=torch.float32) / 16
            yield image, torch.tensor(self.labels[index])


def evaluate(accelerator, model, loader):
    """Return the mean loss and the accuracy over the held-out images, and their number."""
    found = []
    for images, labels in loader:
        with torch.no_grad():
            scores = model(images)
        loss = nn.functional.cross_entropy(scores, labels, reduction="none")
        pairs = torch.stack([loss, (scores.argmax(dim=1) == labels).float()], dim=1)
        found.append(accelerator.gather_for_metrics(pairs))
    found = torch.cat(found)
    return *found.mean(dim=0).tolist(), len(found)


def main():
    set_seed(0)
    data = DataLoaderConfiguration(dispatch_batches=True, split_batches=True)
    accelerator = Accelerator(dataloader_config=data)
    stream = Digits(slice(TRAINING))
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model, optimizer, train_loader, test_loader = accelerator.prepare(
        model,
        optimizer,
        DataLoader(stream, batch_size=32),
        DataLoader(Digits(slice(TRAINING, None)), batch_size=32),
    )
    seen = 0
    for _ in accelerator.epochs(EPOCHS):
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            seen += len(images)
    told = gather_object([(stream.read, seen)])
    loss, accuracy, count = evaluate(accelerator, model, test_loader)
    if accelerator.is_main_process:
        for rank, (read, images) in enumerate(told):
            print(f"rank {rank} read {read}: {images} images")
        print(f"{count} held-out images: loss {loss:.6f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
