"""An unchanged script for torchrun: it uses torch.distributed, and nothing of AcceleratedJob."""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, random_split

TRAINING = 1440  # of 1,797 images: 45 batches of 32
EPOCHS = 5


def main():
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    split = torch.Generator().manual_seed(0)
    train_set, test_set = random_split(data, [TRAINING, len(data) - TRAINING], generator=split)
    sampler = DistributedSampler(train_set, seed=0)
    loader = DataLoader(train_set, batch_size=32 // size, sampler=sampler)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    seen = torch.zeros(1, dtype=torch.int64)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += len(images)
    told = [torch.zeros_like(seen) for _ in range(size)]
    dist.all_gather(told, seen)
    if rank == 0:
        for other, count in enumerate(told):
            print(f"rank {other} of {size}: {count.item()} images")
        images, labels = next(iter(DataLoader(test_set, batch_size=len(test_set))))
        with torch.no_grad():
            scores = model.module(images)
        loss = nn.functional.cross_entropy(scores, labels).item()
        accuracy = (scores.argmax(dim=1) == labels).float().mean().item()
        print(f"{len(labels)} held-out images: loss {loss:.6f}, accuracy {accuracy:.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
