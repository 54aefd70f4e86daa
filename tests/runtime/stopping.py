"""Scripts that are asked to stop, in forks of one process: `stopping FOLDER` writes JSON.

For each it says the exit code, the termination message, and the step of the newest checkpoint.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from acceleratedjob.local.process import free_port
from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.config.settings import LoopSettings
from runtime.launch.processes import reap
from runtime.loop import stopping
from tests.distributed.storm_worlds import fork

GRACE = 600  # seconds; a process that does not end by itself ends much sooner
ASKED_AT = 3  # the step after which the job is asked to stop


class Job:
    """A training that is asked to stop."""

    def __init__(self) -> None:
        self.accelerator = Accelerator(cpu=True)
        model = torch.nn.Linear(1, 1)
        data = DataLoader(TensorDataset(torch.ones(40, 1)), 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, data)
        self.steps = 0

    def one_pass(self) -> None:
        """Train on all batches."""
        for (x,) in self.loader:
            self.step(x)

    def step(self, x: torch.Tensor) -> None:
        """Train on one batch."""
        self.accelerator.backward(self.model(x).sum())
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        if self.steps == ASKED_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        while self.steps == ASKED_AT and not self.is_asked():
            threading.Event().wait(0.01)

    def is_asked(self) -> bool:
        """Whether the thread of signals has told the loop."""
        return self.accelerator._loop._control.is_raised


def plain() -> None:
    """Expects nothing."""
    job = Job()
    for _ in job.accelerator.epochs(50):
        job.one_pass()


def caught_once() -> None:
    """Catches what ends a pass."""
    job = Job()
    for _ in job.accelerator.epochs(50):
        try:
            job.one_pass()
        except BaseException:  # noqa: BLE001  # as such scripts do
            assert job.steps == ASKED_AT


def caught_always() -> None:
    """Catches everything, for ever."""
    job = Job()
    epochs = job.accelerator.epochs(50)
    while True:
        try:
            next(epochs)
            job.one_pass()
        except BaseException:  # noqa: BLE001  # as such scripts do
            assert job.steps == ASKED_AT


def with_a_thread() -> None:
    """A thread never ends, which keeps the interpreter alive."""
    threading.Thread(target=threading.Event().wait).start()
    plain()


def _install_handler() -> None:
    """Install a handler that writes how many checkpoints there are."""
    said = Path("handler")
    signal.signal(signal.SIGTERM, lambda *_: said.write_text(f"{len(list(Path('c').iterdir()))}"))


def with_a_handler() -> None:
    """The script's own handler is called when the training has stopped."""
    _install_handler()
    plain()


def with_a_handler_that_exits() -> None:
    """The script's own handler says that all is well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    plain()


def with_a_later_handler() -> None:
    """The same for a handler that the script installs in its first epoch."""
    job = Job()
    for epoch in job.accelerator.epochs(50):
        if not epoch:
            _install_handler()
        job.one_pass()


def after_asyncio() -> None:
    """An event loop of the first epoch has had a handler, and has left the default one."""

    async def handle() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)

    job = Job()
    for epoch in job.accelerator.epochs(50):
        if not epoch:
            asyncio.run(handle())
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        job.one_pass()


def slow_to_leave() -> None:
    """When all is done, the interpreter takes long to end, and gets SIGTERM again meanwhile."""
    end = os._exit

    def end_slowly(code: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        end(code)

    os._exit = end_slowly  # type: ignore[assignment]
    stopping._LEAVING = GRACE  # nothing but the interpreter itself ends it
    sys.stdout.write("said before the end")  # into a buffer
    plain()


def should_stop() -> None:
    """Leaves its own loop."""
    job = Job()
    for (x,) in job.loader:
        if job.accelerator.should_stop:
            sys.exit(job.steps)
        job.step(x)


SCRIPTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        *(plain, caught_once, caught_always, with_a_thread, with_a_handler),
        *(with_a_handler_that_exits, with_a_later_handler, after_asyncio),
        *(slow_to_leave, should_stop),
    )
}


def found(folder: Path, code: int) -> dict[str, Any]:
    """What a script has left."""
    words, handler = folder / "words", folder / "handler"
    checkpoints = folder / "c"
    names = manifest.checkpoints_in(checkpoints) if checkpoints.exists() else []
    return {
        "code": code,
        "words": json.loads(words.read_text()) if words.exists() else None,
        "checkpoint": manifest.number(names[-1]) if names else None,
        "log": Path(folder, "log").read_text(),
        "handler": handler.read_text() if handler.exists() else None,
    }


def main(parent: str) -> None:
    """Run all scripts at once."""
    pids = {}
    for name, script in SCRIPTS.items():
        folder = Path(parent, name)
        folder.mkdir()
        env = {
            "ACCELERATEDJOB_CHECKPOINT_DIR": str(folder / "c"),
            "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "1000",
            "ACCELERATEDJOB_TERMINATION_LOG": str(folder / "words"),
            LoopSettings.variable("stop_grace_seconds"): str(GRACE),
            "ACCELERATEDJOB_REPLICAS": "1",  # else there is no termination message
            "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1",
            "ACCELERATEDJOB_UID": "u",
            "ACCELERATEDJOB_ATTEMPT": "0",
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        if script is should_stop:
            del env["ACCELERATEDJOB_CHECKPOINT_DIR"]
        pids[fork(_in(folder, script), env, folder / "log")] = folder
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        codes.update(reap())
        threading.Event().wait(0.01)
    told = {folder.name: found(folder, codes[pid]) for pid, folder in pids.items()}
    sys.stdout.write(json.dumps(told))


def _in(folder: Path, script: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        os.chdir(folder)
        script()

    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
