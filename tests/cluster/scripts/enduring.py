"""A training of many short steps, which others disturb; each rank records what it trains on.

Beside its checkpoints are the files ATTEMPT-RANK, with the samples of each step in a line, and at
the end `weights`. It trains slowly until there is a file `fast`.
"""

import os
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator

EPOCHS, SAMPLES, GLOBAL_BATCH = 60, 96, 12  # two minutes of slow steps: for all that disturbs it
SECONDS = 0.25  # of a slow step


def main() -> None:
    attempt, rank = os.environ["ACCELERATEDJOB_ATTEMPT"], os.environ["RANK"]
    folder = Path(os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"]).parent
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    data = TensorDataset(torch.arange(SAMPLES), torch.randn(SAMPLES, 4))
    batch_size = GLOBAL_BATCH // accelerator.num_processes
    loader = DataLoader(data, batch_size=batch_size, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    with (folder / f"{attempt}-{rank}").open("a", buffering=1) as record:
        for epoch in accelerator.epochs(EPOCHS):
            for samples, inputs in loader:
                accelerator.backward(model(inputs).square().mean())
                optimizer.step()
                optimizer.zero_grad()
                step = accelerator.completed_steps
                print(epoch, step, *samples.tolist(), file=record)
                if not (folder / "fast").exists():
                    time.sleep(SECONDS)
    if accelerator.is_main_process:
        state = accelerator.unwrap_model(model).state_dict()
        weights = [value.hex() for one in state.values() for value in one.flatten().tolist()]
        (folder / "weights").write_text("\n".join(weights))


if __name__ == "__main__":
    main()
