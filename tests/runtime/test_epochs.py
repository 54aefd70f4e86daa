"""What an epoch takes does not grow: neither with the samples of a keyed order, nor with epochs."""

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from runtime.data_loader import prepare_data_loader
from runtime.state import GradientState

PEAKS = """
import gc
from pathlib import Path
import torch
from torch.utils.data import DataLoader, Dataset
from runtime.data_loader import prepare_data_loader


class Large(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return index


def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0]) * 1024  # bytes


def peak(n, **options):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = memory("VmRSS:")
    loader = DataLoader(Large(n), batch_size=32, shuffle=True)
    batches = iter(prepare_data_loader(loader, num_processes=8, process_index=3, **options))
    assert len(set(next(batches).tolist())) == 32
    batches.close()  # torch's order is then there
    return memory("VmHWM:") - before


peak(100_000)
print(peak(10**9, shuffle="keyed", data_seed=1), peak(2 * 10**7))
"""

GROWTH = """
import gc
import json
import sys
import tracemalloc
import torch
from torch.utils.data import DataLoader, TensorDataset
from runtime.data_loader import prepare_data_loader
from runtime.state import GradientState


def epochs(loader, n):
    for epoch in range(n):
        for batch in loader:
            assert len(batch)
            if epoch % 3 == 0:
                break  # every third is left early


data = DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2, shuffle=True)
loader = prepare_data_loader(data, **json.loads(sys.argv[1]))
epochs(loader, 100)
gc.collect()
tracemalloc.start()
before, objects = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
epochs(loader, 1000)
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - before
more = len(gc.get_objects()) - objects
state = GradientState()
held = [one for one in state.dataloader_references if one is not None]
print(json.dumps([grown, more, state.in_dataloader, len(held)]))
"""


def run(program: str, *arguments: str) -> str:
    """What a program prints."""
    command = [sys.executable, "-c", program, *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_a_keyed_epoch_of_a_billion_samples_begins_in_50_megabytes() -> None:
    """Torch's order of a fiftieth of them takes more."""
    keyed, drawn = map(int, run(PEAKS).split())
    assert keyed < 50 * 2**20 < drawn


@pytest.mark.parametrize("options", [{}, {"use_seedable_sampler": True}, {"shuffle": "keyed"}])
def test_a_thousand_epochs_leave_nothing_behind(options: dict[str, Any]) -> None:
    """Measured in a process of its own, where no other thread allocates."""
    grown, more, in_dataloader, held = json.loads(run(GROWTH, json.dumps(options)))
    assert grown < 20_000  # bytes: 20 for each epoch would be a leak
    assert more < 100
    assert (in_dataloader, held) == (False, 0)


def test_a_loader_that_was_left_early_is_freed() -> None:
    """Also one whose loop is still there, once both are out of sight."""
    loader = prepare_data_loader(DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2))
    gone = weakref.ref(loader)
    for _ in loader:
        break
    batches = iter(loader)
    next(batches)
    assert GradientState().active_dataloader is loader
    del loader, batches
    gc.collect()
    assert gone() is None
    assert GradientState().active_dataloader is None


def test_an_order_in_the_making_is_freed_when_its_loop_is_left() -> None:
    """A thread makes it; the next epoch does not wait behind it."""
    sampler = RandomSampler(range(200_000), generator=torch.Generator().manual_seed(1))
    loader = prepare_data_loader(DataLoader(range(200_000), batch_size=2, sampler=sampler))  # type: ignore[arg-type]  # a range will do
    for _ in range(3):
        for _ in loader:
            break
    gc.collect()
    held = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.numel() >= 200_000]
    assert held == []
