"""What the training scripts of all systems share: data, model, optimizer, and the digest."""

import hashlib
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bench.goodput.workloads import Workload

# So few parameters that a step takes the time of its pause: how long the rest takes changes by half
# from minute to minute on a machine that shares its cores.
INPUTS, WIDTH = 64, 256
SEED = 7
_SIDE = 2048  # of a matrix of the frozen parameters
_RATE = 1e-3
Sample = tuple[torch.Tensor, int]


class Samples(Dataset[Sample]):
    """Random inputs, which are the same for the same index, and the index."""

    def __init__(self, count: int) -> None:
        """Args: count: the number of samples."""
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return torch.randn(INPUTS, generator=torch.Generator().manual_seed(index)), index


class Net(nn.Module):
    """A small model that is trained, beside large weights that are not."""

    def __init__(self, frozen: int) -> None:
        """Args: frozen: how many million parameters are not trained."""
        super().__init__()
        torch.manual_seed(SEED)
        self.head = nn.Sequential(
            *(nn.Linear(INPUTS, WIDTH), nn.ReLU()),
            *(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)),
        )
        count = frozen * 10**6 // _SIDE**2
        self.trunk = nn.ParameterList(torch.randn(_SIDE, _SIDE) for _ in range(count))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return one number for each sample."""
        found: torch.Tensor = self.head(inputs)
        return found


@dataclass(frozen=True, slots=True)
class Parts:
    """What is trained.

    Attributes:
        workload: the workload.
        data: the dataset.
        model: the model.
        optimizer: the optimizer, which has the state of all parameters.
    """

    workload: Workload
    data: Samples
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def loader(self, **options: object) -> DataLoader[Sample]:
        """Return a loader of the batches of a rank."""
        return DataLoader(self.data, self.workload.work.batch, **options)  # type: ignore[arg-type]

    def batches(self, batches: list[list[int]]) -> DataLoader[Sample]:
        """Return a loader of some batches."""
        return DataLoader(self.data, batch_sampler=batches)

    def loss(self, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch, after the time that a device would compute."""
        time.sleep(self.workload.pause)
        found: torch.Tensor = (model(inputs).squeeze(1) - inputs.sum(1)).square().mean()
        return found

    @property
    def digest(self) -> int:
        """A digest of the trained weights."""
        made = hashlib.sha256()
        for one in self.model.parameters():
            if one.requires_grad:
                made.update(one.detach().numpy().tobytes())
        return int.from_bytes(made.digest()[:8])


def build(workload: Workload) -> Parts:
    """Return the parts of a workload, the same on all ranks."""
    torch.set_num_threads(1)
    net = Net(workload.frozen)
    optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=0.0)
    for one in net.trunk:  # a step without gradients changes nothing, and makes Adam's moments
        one.grad = torch.zeros_like(one)
    optimizer.step()
    optimizer.zero_grad()
    net.trunk.requires_grad_(requires_grad=False)
    return Parts(workload, Samples(workload.work.samples), net, optimizer)
