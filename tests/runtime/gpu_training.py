"""A training on a GPU that a test ends at a step: `gpu_training.py FOLDER END EPOCHS`.

END is `never`, `kill:STEP` or `stop:STEP`, which happen once, or `error:STEP`, a failure of the
GPU. With `kill:saved` the process is killed when an automatic checkpoint is complete. FOLDER gets
a line for each step, in `steps`, and the final weights, in `weights`.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.utils import ProjectConfiguration, set_seed

ON_CPU = "ACCELERATE_USE_CPU" in os.environ


def main(folder: Path, end: str, epochs: int) -> None:
    """Train on random data, with dropout, and with a gradient scaler that overflows at first."""
    set_seed(3)
    accelerator = Accelerator(
        mixed_precision="no" if ON_CPU else "fp16",
        project_config=ProjectConfiguration(durable=False),
    )
    model: Any = nn.Sequential(
        nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Dropout(), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=0.01)
    data = TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
    loader: Any = DataLoader(data, batch_size=4, shuffle=True, pin_memory=not ON_CPU)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in accelerator.epochs(epochs):
        for inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs).float(), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step = accelerator.completed_steps
            with (folder / "steps").open("a") as file:
                file.write(f"{step} {float(loss).hex()} {float(torch.rand(())).hex()}\n")
            ends(folder, end, step, accelerator)
    weights = torch.cat([one.flatten().float().cpu() for one in model.state_dict().values()])
    (folder / "weights").write_text(hashlib.sha256(weights.numpy().tobytes()).hexdigest())


def ends(folder: Path, end: str, step: int, accelerator: Accelerator) -> None:
    """End this life if it is time to."""
    kind, _, at = end.partition(":")
    checkpoints: Any = accelerator._loop._checkpoints
    is_saved = at == "saved" and checkpoints.safe_step() is not None
    mark = folder / "has-ended"
    if not (is_saved or str(step) == at) or mark.exists():
        return
    mark.touch()
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "stop":
        os.kill(os.getppid(), signal.SIGTERM)
    else:
        index = torch.full((1,), 10**6, device=accelerator.device)
        found = torch.zeros(2, device=accelerator.device)[index]  # the GPU fails later
        found.item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
