"""Accumulate gradients over several batches, in mixed precision.

`spec.runtime` in job.yaml sets the number of batches per step and the precision.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import gather_object, set_seed

TRAINING = 1440  # of 1,797 images: 45 batches of 32
EPOCHS = 5


def datasets():
    """Return the training images and the held-out images: 8 x 8 pixels, scaled to [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    split = torch.Generator().manual_seed(0)
    return torch.utils.data.random_split(data, [TRAINING, len(data) - TRAINING], generator=split)


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
    data = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    accelerator = Accelerator(dataloader_config=data)
    train_set, test_set = datasets()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    model, optimizer, train_loader, test_loader = accelerator.prepare(
        model,
        optimizer,
        DataLoader(train_set, batch_size=32, shuffle=True),
        DataLoader(test_set, batch_size=32),
    )
    seen = steps = 0
    for _ in accelerator.epochs(EPOCHS):
        for images, labels in train_loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            steps += accelerator.sync_gradients
            seen += len(images)
    told = gather_object([(seen, steps, accelerator.mixed_precision)])
    loss, accuracy, count = evaluate(accelerator, model, test_loader)
    if accelerator.is_main_process:
        for rank, (images, steps, precision) in enumerate(told):
            print(f"rank {rank}: {images} images, {steps} steps in {precision}")
        print(f"{count} held-out images: loss {loss:.6f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
