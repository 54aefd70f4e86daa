"""Train a ResNet of torchvision on images, with augmentation: an ordinary Accelerate script.

The images are scikit-learn's digits, so nothing is downloaded. For images of yours, use a dataset
such as torchvision's `ImageFolder`, and `weights=` to start from a trained model.
"""

import argparse
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.models import resnet18
from torchvision.transforms import v2

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import set_seed

CLASSES = 10
HELD_OUT = 357  # of 1,797 images
PIXELS = 32  # of each side, as a ResNet halves it five times
GROUPS = 8  # a GroupNorm, unlike a BatchNorm, does not depend on how a batch is divided


class Digits(Dataset):
    """Images of shape (3, 32, 32), with values in [0, 1], and their labels."""

    def __init__(self, *transforms):
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32) / 16
        self.images = images.unsqueeze(1).expand(-1, 3, -1, -1)
        self.labels = torch.tensor(digits.target)
        self.transform = v2.Compose([v2.Resize(PIXELS), *transforms])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def datasets(images):
    """Return training images, which are augmented, and held-out images, which are not."""
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).tolist()
    augmented = Digits(v2.RandomAffine(degrees=10, translate=(0.1, 0.1)))
    return Subset(augmented, order[HELD_OUT:][:images]), Subset(Digits(), order[:HELD_OUT])


def evaluate(accelerator, model, loader):
    """Return the accuracy over the held-out images; each counts once, also in several processes."""
    model.eval()
    correct = []
    for images, labels in loader:
        with torch.no_grad():
            predicted = model(images).argmax(dim=1)
        correct.append(accelerator.gather_for_metrics(predicted == labels))
    return torch.cat(correct).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=1440, help="number of training images")
    parser.add_argument("--batch-size", type=int, default=32, help="of all processes together")
    parser.add_argument("--workers", type=int, default=1, help="that load images, per process")
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    set_seed(0)
    data = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    accelerator = Accelerator(dataloader_config=data)
    train_set, test_set = datasets(args.images)
    load = partial(DataLoader, batch_size=args.batch_size, num_workers=args.workers)
    model = resnet18(num_classes=CLASSES, norm_layer=partial(nn.GroupNorm, GROUPS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    model, optimizer, train_loader, test_loader = accelerator.prepare(
        model, optimizer, load(train_set, shuffle=True, drop_last=True), load(test_set)
    )
    for epoch in accelerator.epochs(args.epochs):
        model.train()
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        accuracy = evaluate(accelerator, model, test_loader)
        accelerator.print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
