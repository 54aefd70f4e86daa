"""`Client.local()` trains: the notebook of the examples, and a stop that goes on where it was."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acceleratedjob import Client
from tests.distributed.world import ROOT, SCRIPT

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.xdist_group("gloo")]

SECONDS = 400
EPOCHS, STEPS = 50, 8  # of two ranks


def train(epochs: int, folder: str) -> None:
    """Train slowly, until a file is there."""
    import time
    from pathlib import Path

    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from runtime import Accelerator

    accelerator = Accelerator()
    inputs = torch.randn(64, 4)
    data = TensorDataset(inputs, inputs.sum(dim=1, keepdim=True))
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=4))
    for epoch in accelerator.epochs(epochs):
        print(epoch, flush=True)
        for given, wanted in loader:
            accelerator.backward(torch.nn.functional.mse_loss(model(given), wanted))
            optimizer.step()
            optimizer.zero_grad()
            if not Path(folder, "go").exists():
                time.sleep(0.2)


def test_a_function_is_stopped_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with Client.local(tmp_path) as client:
        job = client.train(
            train,
            args={"epochs": EPOCHS, "folder": str(tmp_path)},
            replicas=2,
            env=SCRIPT,
            checkpoint="1Gi",
        )
        assert any(line.text == "3" for line in job.logs(replica=0, follow=True))
        assert job.stop(timeout=SECONDS).phase == "Suspended"
        (tmp_path / "go").touch()
        job.resume()
        state = job.wait(timeout=SECONDS)
        lines = [line for line in job.logs() if line.text.isdigit()]
    assert (state.step, state.percent, state.attempt) == (EPOCHS * STEPS, 100, 1)
    for rank in (0, 1):
        epochs = [int(line.text) for line in lines if line.rank == rank]
        assert epochs == [*range(epochs[0], EPOCHS)]
        assert epochs[0] > 0


def test_the_notebook_trains() -> None:
    """In a process of its own, whose event loop runs, as that of a notebook does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cells", "examples/notebook/train.ipynb"],
        cwd=ROOT,
        env=os.environ | SCRIPT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, end = done.stdout.splitlines()
    epochs = [line for line in lines if re.fullmatch(r"rank 0 \| epoch \d of 3: loss 0\.\d+", line)]
    assert len(epochs) == 3
    assert end == "Succeeded after 87 of 87 steps"
