"""What is trained: the same for all systems. This module imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bench.goodput.ledger import IDS

WORKLOAD, EPOCHS, EVERY = "GOODPUT_WORKLOAD", "GOODPUT_EPOCHS", "GOODPUT_EVERY"
FOLDER = "GOODPUT_FOLDER"  # the variable of the folder for checkpoints and logs
RANKS = 2  # one a core of the smallest machine
START_LIMIT = 40.0  # seconds until the first step, where a system has a limit for that
STEP_LIMIT = 3.0  # seconds after which a rank that has done no step hangs
SAVE_LIMIT = 20.0  # the same where a save of a gigabyte may lie between two signs of life
COLLECTIVE_LIMIT = 5.0  # the same where only the timeout of a collective tells it


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a training, which is the same for all systems.

    Attributes:
        ranks: the number of ranks.
        batch: the samples of a rank in a step.
        samples: the size of the dataset, a multiple of the global batch.
        epochs: the number of epochs.
    """

    ranks: int
    batch: int
    samples: int
    epochs: int

    @property
    def steps(self) -> int:
        """The number of steps without faults."""
        return self.epochs * self.samples // (self.ranks * self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A training.

    Attributes:
        name: its name.
        title: its name on the page.
        work: the ranks, samples and epochs.
        pause: the seconds that each step sleeps, for the time of a device; the rest is computed.
        frozen: how many million parameters the state has that are not trained any more.
        step: about how long a step takes, in seconds.
    """

    name: str
    title: str
    work: Work
    pause: float
    frozen: int
    step: float

    @property
    def silence(self) -> float:
        """The seconds after which a rank hangs, in a system to which it says nothing in a save."""
        return SAVE_LIMIT if self.frozen else STEP_LIMIT

    def lasting(self, seconds: float) -> Self:
        """Return the workload with as many epochs as last for some seconds, at least two."""
        one_epoch = replace(self.work, epochs=1).steps * self.step
        return replace(self, work=replace(self.work, epochs=max(2, round(seconds / one_epoch))))


_STEP = Workload(
    name="step",
    title="50 ms step",
    work=Work(ranks=RANKS, batch=IDS, samples=160 * RANKS * IDS, epochs=2),
    pause=0.045,
    frozen=0,
    step=0.05,
)
_STATE = Workload(
    name="state",
    title="1.2 GB state",
    work=Work(ranks=RANKS, batch=8, samples=50 * RANKS * 8, epochs=2),
    pause=0.28,
    frozen=100,
    step=0.3,
)
WORKLOADS = {one.name: one for one in (_STEP, _STATE)}


@dataclass(frozen=True, slots=True)
class Task:
    """What a training script reads from its environment.

    Attributes:
        workload: the workload.
        folder: the folder for checkpoints and logs.
        every: the steps between two checkpoints, where the script decides that.
    """

    workload: Workload
    folder: Path
    every: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Return the task of this process."""
        workload = WORKLOADS[env[WORKLOAD]]
        work = replace(workload.work, epochs=int(env[EPOCHS]))
        return cls(replace(workload, work=work), Path(env[FOLDER]), int(env[EVERY]))

    @property
    def env(self) -> Mapping[str, str]:
        """The environment variables that describe the task."""
        return {
            WORKLOAD: self.workload.name,
            EPOCHS: str(self.workload.work.epochs),
            EVERY: str(self.every),
            FOLDER: str(self.folder),
        }
