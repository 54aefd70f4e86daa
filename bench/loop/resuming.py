"""What a resume costs: bytes read from the checkpoint, and memory beyond the state.

    export ACCELERATEDJOB_CHECKPOINT_DIR=/tmp/checkpoints ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS=4
    python -m runtime.launch --standalone --nproc-per-node 2 -m bench.loop.resuming

The first run writes a checkpoint, and the next ones resume from it. The main process prints one
JSON line: the bytes that all ranks have read, the most memory that a rank took beyond its state,
and the bytes of the state. Bytes of mapped files count if they were in memory at any time.
"""

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from bench.libraries import peak
from bench.loop.training import Layers, layers_of
from runtime import Accelerator

_PAUSE = 0.001  # seconds between two looks at the mapped files


class Mapped(threading.Thread):
    """Watches how much of the files of a folder is mapped to this process' memory."""

    def __init__(self, folder: str) -> None:
        """Begin to watch.

        Args:
            folder: the path of the folder.
        """
        super().__init__(daemon=True)
        self._folder = folder
        self._most: dict[str, int] = {}
        self._is_over = threading.Event()
        self.start()

    def run(self) -> None:
        """Watch until it is over."""
        while not self._is_over.wait(_PAUSE):
            self._look()

    def _look(self) -> None:
        file = ""
        for line in Path("/proc/self/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):  # the line of another mapping
                file = words[-1] if words[-1].startswith(self._folder) else ""
            elif file and words[0] == "Rss:":
                self._most[file] = max(self._most.get(file, 0), 1024 * int(words[1]))

    def end(self) -> int:
        """Return the bytes that were in memory, each counted once."""
        self._is_over.set()
        self.join()
        return sum(self._most.values())


def read() -> int:
    """Return the bytes that this process has read by system calls."""
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    """Train a little, and print what the resume before it has cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=400, help="size of the state")
    options = parser.parse_args()
    accelerator = Accelerator(cpu=True)
    model: Any = Layers(layers_of(options.megabytes))
    optimizer: Any = torch.optim.AdamW(model.parameters())
    data = DataLoader(TensorDataset(torch.randn(8 * accelerator.num_processes, 8)))
    model, optimizer, batches = accelerator.prepare(model, optimizer, data)
    accelerator.backward(model(torch.zeros(1, 8)))  # the state exists, and is not counted
    optimizer.step()
    optimizer.zero_grad()
    epochs: Any = None

    def resume() -> None:
        nonlocal epochs
        epochs = accelerator.epochs(10**6)

    mapped, before = Mapped(os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"]), read()
    memory = peak(resume)
    found = accelerator.gather_for_metrics(
        [(read() - before + mapped.end(), memory)], use_gather_object=True
    )
    state = sum(one.nbytes for values in optimizer.state.values() for one in values.values())
    state += sum(one.nbytes for one in model.parameters())
    for _ in epochs:
        for (inputs,) in batches:
            accelerator.backward(model(inputs))
            optimizer.step()
            optimizer.zero_grad()
        break
    accelerator.wait_for_checkpoint()
    if accelerator.is_main_process:
        bytes_, most = sum(one for one, _ in found), max(one for _, one in found)
        sys.stdout.write(json.dumps({"read": bytes_, "memory": most, "state": state}) + "\n")


if __name__ == "__main__":
    main()
