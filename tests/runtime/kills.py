"""A training that is killed wherever one likes: torch is imported once, each life is a fork.

Reads a line for each life, `{"mode": ..., "folder": ..., "event": n or null, "after": s or null}`;
writes what the life has said, one JSON object a line, and `{"ended": signal or 0}`.

An event is a call that touches the project's files, as the interpreter's audit hooks see it.
"""

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.config.plugins import ProjectConfiguration
from tests.states import fresh

STEPS = 18
MODES: dict[str, dict[str, Any]] = {  # how checkpoints are written
    "while the training waits": {"automatic_checkpoint_naming": True, "total_limit": 2},
    "behind": {"automatic_checkpoint_naming": True, "total_limit": 2, "write_behind": True},
    "one is kept": {"automatic_checkpoint_naming": True, "total_limit": 1, "durable": False},
    "one is kept, behind": {
        "automatic_checkpoint_naming": True,
        "total_limit": 1,
        "write_behind": True,
        "durable": False,
    },
    "over the last one": {"durable": False},
}


def say(**said: Any) -> None:
    """Tell it now: a kill loses nothing."""
    os.write(1, json.dumps(said).encode() + b"\n")


class Steps:
    """How many there were."""

    def __init__(self) -> None:
        self.n = 0

    def state_dict(self) -> dict[str, int]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.n = state["n"]


class Training:
    """Goes on from the newest checkpoint to the end; says what is safe and what comes out."""

    def __init__(self, mode: str, folder: str) -> None:
        torch.manual_seed(1)
        self.config = ProjectConfiguration(folder, **MODES[mode])
        self.accelerator = Accelerator(cpu=True, project_config=self.config)
        model = nn.Linear(4, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
        data = TensorDataset(torch.randn(28, 4, generator=torch.Generator().manual_seed(2)))
        loader = DataLoader(data, batch_size=4, shuffle=True)
        prepared = self.accelerator.prepare(model, optimizer, loader, scheduler)
        self.model, self.optimizer, self.loader, self.scheduler = prepared
        self.steps = Steps()
        self.accelerator.register_for_checkpointing(self.steps)
        self.where = None if self.config.automatic_checkpoint_naming else Path(folder, "it")
        self.written = 0  # the step of the save before

    def run(self) -> None:
        """Load, train, and end."""
        try:
            self.accelerator.load_state(self.where)
        except ValueError as error:  # there is none yet; the test knows whether one must be
            say(none=str(error))
        say(loaded=self.steps.n)
        while self.steps.n < STEPS:
            for (x,) in self.loader:
                self.step(x)
                if self.steps.n == STEPS:
                    break
        self.accelerator.end_training()
        state = [*self.model.parameters(), torch.get_rng_state()]
        state += _numbers(self.optimizer.state_dict()["state"])
        say(done=[one.tolist() for one in state], scheduler=self.scheduler.state_dict())

    def step(self, x: torch.Tensor) -> None:
        """One step; a checkpoint behind every third."""
        loss = (self.model(x) * torch.rand(4, 4)).square().mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.steps.n += 1
        if self.steps.n % 3 == 0:
            self.accelerator.save_state(self.where)
            say(safe=self.written if self.config.write_behind else self.steps.n)
            self.written = self.steps.n


def _numbers(state: dict[int, dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    return [one for index in sorted(state) for _, one in sorted(state[index].items())]


class Death:
    """Kills this process at an event."""

    def __init__(self, folder: str, event: int | None) -> None:
        self.folder, self.event, self.seen = folder, event, 0
        sys.addaudithook(self)

    def __call__(self, name: str, args: tuple[Any, ...]) -> None:
        if not (name == "open" or name.startswith(("os.", "shutil."))) or name == "os.kill":
            return
        if not any(str(one).startswith(self.folder) for one in args[:2]):
            return
        self.seen += 1
        if self.seen == self.event:
            os.kill(os.getpid(), signal.SIGKILL)


def live(life: dict[str, Any]) -> None:
    """One life, in a process of its own."""
    death = Death(life["folder"], life["event"])
    Training(life["mode"], life["folder"]).run()
    say(events=death.seen)


def main() -> None:
    """Live once, for what torch imports when it is used; then fork for each line."""
    with tempfile.TemporaryDirectory() as folder:
        Training("over the last one", folder).run()
    fresh()
    say(ended=0)
    for line in sys.stdin:
        life = json.loads(line)
        child = os.fork()
        if not child:
            try:
                live(life)
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        timer = threading.Timer(life["after"] or 1000, os.kill, (child, signal.SIGKILL))
        timer.start()
        status = os.waitpid(child, 0)[1]
        timer.cancel()
        timer.join()
        say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
