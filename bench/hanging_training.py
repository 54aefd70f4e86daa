"""A training of which one rank misbehaves: `hanging_training.py WHAT RANK`, for bench.hangs."""

import collections
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from runtime import Accelerator

PEACE = 12  # steps before a rank misbehaves
STEP = 0.05  # seconds
SAVES = 5  # one of them is that in which a rank is stopped
LOCK = threading.Lock()


def sleeps() -> None:
    """Sleep without end."""
    time.sleep(1000)


def is_stopped() -> None:
    """Be stopped by a signal."""
    os.kill(os.getpid(), signal.SIGSTOP)


def waits_for_its_own_lock() -> None:
    """Wait for a lock that this thread holds."""
    with LOCK:
        LOCK.acquire()


def loops_in_c() -> None:
    """Run without end in C code that never gives the interpreter lock to another thread."""
    collections.deque(itertools.repeat(0), maxlen=0)


def reads_slowly() -> None:
    """Wait for data that nobody writes."""
    note_time()
    source, _sink = os.pipe()
    os.read(source, 1)


def note_time() -> None:
    """Note when this rank begins to misbehave."""
    Path(os.environ["HANGING_SINCE"]).write_text(str(time.time()))


def flips_a_bit(accelerator: Accelerator) -> None:
    """Flip a bit of the optimizer's state."""
    optimizer = accelerator._optimizers[0]  # noqa: SLF001  # Accelerate's name
    state = next(iter(optimizer.state.values()))
    state["exp_avg"].view(torch.int32).view(-1)[1] ^= 1


HANGS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (sleeps, is_stopped, waits_for_its_own_lock, loops_in_c, reads_slowly)
}


def pauses() -> None:
    """Do nothing for the time that a job may rightly take."""
    note_time()
    time.sleep(float(os.environ["HANGING_PAUSE"]))


class SlowState:
    """An object whose state takes long to save."""

    def state_dict(self) -> dict[str, int]:
        """Return the state, after a pause."""
        pauses()
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Do nothing."""


class StopsInSave:
    """An object that is saved; the culprit is stopped while it is asked for its state."""

    def __init__(self, *, is_culprit: bool) -> None:
        """Store the argument.

        Args:
            is_culprit: whether this rank is to be stopped.
        """
        self._is_culprit, self._saves = is_culprit, 0

    def state_dict(self) -> dict[str, int]:
        """Return the state."""
        self._saves += 1
        if self._is_culprit and self._saves == SAVES:
            note_time()
            is_stopped()
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Do nothing."""


class Data(Dataset[torch.Tensor]):
    """Ones; the culprit waits for one of them."""

    def __init__(self, slow_from: int | None) -> None:
        """Store the argument.

        Args:
            slow_from: the number of reads after which the data are awaited without end.
        """
        self._slow_from, self._reads = slow_from, 0

    def __len__(self) -> int:
        """Return more samples than are read."""
        return 1 << 20

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return a sample."""
        self._reads += 1
        if self._slow_from is not None and self._reads > self._slow_from:
            reads_slowly()
        return torch.ones(8)


def save(accelerator: Accelerator) -> None:
    """Save as a script does by itself."""
    accelerator.save_state(f"{os.environ['HANGING_SINCE']}-saved")


ON_ALL: dict[str, tuple[int, Callable[[Accelerator], None]]] = {  # at which step all ranks do what
    "the first step": (0, lambda _: pauses()),
    "a save of the script": (PEACE, save),
    "a pause of all ranks": (PEACE, lambda _: note_time()),
    "nothing": (PEACE, lambda _: note_time()),
}
HANGS_AT: dict[str, int] = dict.fromkeys(HANGS.keys() - {"reads_slowly"}, PEACE)


def misbehave(what: str, step: int, accelerator: Accelerator) -> None:
    """Do before the optimizer's step what the culprit does."""
    if step == PEACE and what in ("is_slow", "flips_a_bit"):
        note_time()
    if HANGS_AT.get(what) == step:
        note_time()
        HANGS[what]()
    if step == PEACE + 1 and what.startswith(flips_a_bit.__name__):
        flips_a_bit(accelerator)
    if step == 2 * PEACE and what == "flips_a_bit_and_loops_in_c":
        loops_in_c()
    if what == "is_slow":
        time.sleep(STEP)


def prepared(what: str, accelerator: Accelerator, *, is_culprit: bool) -> tuple[Any, Any, Any]:
    """Return the model, the optimizer and the loader."""
    if what in ("a checkpoint", "a save of the script"):
        accelerator.register_for_checkpointing(SlowState())
    if what.endswith("is_stopped_in_a_save"):
        accelerator.register_for_checkpointing(StopsInSave(is_culprit=is_culprit))
    is_slow = is_culprit and what == reads_slowly.__name__
    middle = nn.Identity() if what == "is_slow" else nn.BatchNorm1d(8)
    model = nn.Sequential(nn.Linear(8, 8), middle, nn.Linear(8, 1))
    data = DataLoader(Data(2 * PEACE if is_slow else None), batch_size=2, shuffle=True)
    return accelerator.prepare(model, torch.optim.AdamW(model.parameters()), data)


def main() -> None:
    """Train without end."""
    what, culprit = sys.argv[1], int(sys.argv[2])
    accelerator = Accelerator(cpu=True)
    is_culprit = accelerator.process_index == culprit
    model, optimizer, loader = prepared(what, accelerator, is_culprit=is_culprit)
    at, on_all = ON_ALL.get(what, (-1, save))
    for _ in accelerator.epochs(2):
        for batch in loader:
            step = accelerator.completed_steps
            if step == at:
                on_all(accelerator)
            accelerator.backward(model(batch).square().mean())
            if is_culprit:
                misbehave(what, step, accelerator)
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(STEP / 5 if what == "is_slow" else STEP)
            if step == PEACE and what == "an evaluation without batches":
                break
        if what == "an evaluation without batches":
            pauses()


if __name__ == "__main__":
    main()
