"""Trainings of real launchers in which one rank misbehaves, as a job of pods on this machine.

Each pod has its own launcher, environment and termination message; the verdicts are read from
`/progress` and from the messages.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceleratedjob.local.process import free_port
from runtime.control import local_ranks

ROOT = Path(__file__).parents[1]
TRAINING = Path(__file__).with_name("hanging_training.py")
_PERIOD = 0.1  # seconds between two looks
# The launcher with other limits than those of a job.
_DRIVER = """
import functools, sys
from runtime.control.verdicts.track import Limits
from runtime.launch.__main__ import main
from runtime.launch.coordinator import control_of
floor = float(sys.argv.pop(1))
main(functools.partial(control_of, limits=Limits(floor=floor, save_floor=6 * floor)))
"""


@dataclass(kw_only=True)
class World:
    """A job whose pods run on this machine.

    Attributes:
        folder: an empty folder for its files.
        pods: the number of pods.
        processes: the number of ranks in each pod.
        floor: the least time after which it may be said to hang, in seconds.
        env: more environment variables.
        launchers: the launchers, by the index of the pod.
    """

    folder: Path
    pods: int
    processes: int
    floor: float = 10.0
    env: Mapping[str, str] = field(default_factory=dict)
    launchers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose the ports."""
        self.port, self._progress = free_port(), free_port()

    def start(self, *arguments: str) -> None:
        """Start the launchers."""
        for index in range(self.pods):
            command = [sys.executable, "-c", _DRIVER, str(self.floor), str(TRAINING), *arguments]
            with Path(self.folder, f"log-{index}").open("wb") as log:
                self.launchers.append(
                    subprocess.Popen(
                        command, env=self._env(index), stdout=log, stderr=subprocess.STDOUT
                    )
                )

    def _env(self, index: int) -> dict[str, str]:
        foreign = ("ACCELERATE", "PET_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_")
        kept = {name: one for name, one in os.environ.items() if not name.startswith(foreign)}
        facts = {
            "ACCELERATEDJOB_NAME": "hangs",
            "ACCELERATEDJOB_UID": self.folder.name,
            "ACCELERATEDJOB_REPLICAS": self.pods,
            "ACCELERATEDJOB_REPLICA_INDEX": index,
            "ACCELERATEDJOB_PROCESSES_PER_REPLICA": self.processes,
            "ACCELERATEDJOB_PROGRESS_PORT": self._progress,
            "ACCELERATEDJOB_TERMINATION_LOG": self._message(index),
            "ACCELERATEDJOB_NODE_NAME": f"node-{index}",
            "ACCELERATEDJOB_STOP_GRACE_SECONDS": 4,
            "PET_NNODES": self.pods,
            "PET_NODE_RANK": index,
            "PET_NPROC_PER_NODE": self.processes,
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": self.port,
            "HANGING_SINCE": Path(self.folder, "since"),
            "PYTHONPATH": ROOT,
            "OMP_NUM_THREADS": 1,
        }
        return kept | {name: str(one) for name, one in facts.items()} | dict(self.env)

    def _message(self, index: int) -> Path:
        return Path(self.folder, f"termination-{index}")

    def message(self, index: int) -> dict[str, Any]:
        """Return the termination message of a pod; empty if there is none."""
        path = self._message(index)
        found: dict[str, Any] = json.loads((path.exists() and path.read_text()) or "{}")
        return found

    def log(self) -> str:
        """Return what the pods have written."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("log-*")))

    @property
    def since(self) -> float:
        """When the culprit began to misbehave, by the wall clock; raises OSError before that."""
        return float(Path(self.folder, "since").read_text())

    def progress(self) -> dict[str, Any]:
        """Return what the coordinator shows; empty while it does not answer."""
        url = f"http://127.0.0.1:{self._progress}/progress"
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as it:
            found: dict[str, Any] = json.load(it)
            return found
        return {}

    def verdicts(self, kind: str) -> list[dict[str, Any]]:
        """Return the verdicts of a kind that stand now."""
        return [one for one in self.progress().get("verdicts", ()) if one["kind"] == kind]

    def until(self, holds: Callable[[], Any], seconds: float) -> Any:
        """Wait until something holds; return it.

        Raises:
            TimeoutError: it did not hold in time, or a launcher has ended.
        """
        end = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > end or any(one.poll() is not None for one in self.launchers):
                raise TimeoutError(f"after {seconds} s:\n{self.log()[-4000:]}\n{self.progress()}")
            time.sleep(_PERIOD)
        return found

    def signal_ranks(self, number: int) -> None:
        """Send a signal to all ranks, and not to their launchers."""
        for launcher in self.launchers:
            for one in local_ranks.below(launcher.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, number)

    def stop(self) -> list[int]:
        """End all pods as the kubelet does; return their exit codes."""
        for launcher in self.launchers:
            launcher.send_signal(signal.SIGTERM)
        codes = []
        for launcher in self.launchers:
            try:
                codes.append(launcher.wait(120))
            except subprocess.TimeoutExpired:
                launcher.kill()  # its processes die with it
                codes.append(launcher.wait())
        self.launchers.clear()
        return codes


def hang(kind: str, *, pods: int, processes: int, culprit: int) -> tuple[float, str]:
    """Let a rank hang; return the seconds until the verdict, and what is wrong with it, if it is.

    Args:
        kind: what the rank does, a key of `hanging_training.HANGS`.
        pods: the number of pods.
        processes: the number of ranks in each.
        culprit: the rank.
    """
    with world(pods=pods, processes=processes) as one:
        one.start(kind, str(culprit))
        [verdict] = one.until(lambda: one.verdicts("hang"), 120)
        seconds = time.time() - one.since
        one.until(lambda: all(one.message(index) for index in range(pods)), 10)
        one.stop()
        messages = [one.message(index)["hang"] for index in range(pods)]
    expected: dict[str, Any] = {"rank": culprit, "replica": culprit // processes}
    if kind != "is_stopped":  # nothing of a stopped process knows its line
        expected |= {"file": str(TRAINING), "function": kind}
    is_right = all(one.items() >= expected.items() for one in messages)
    return seconds, "" if is_right else verdict["text"]


def pause(kind: str, seconds: float) -> str:
    """Let all ranks pause for a time that they may take; return the false verdicts on it.

    Args:
        kind: what takes that long.
        seconds: for how long.
    """
    with world(pods=1, processes=2) as one:
        more = {"HANGING_PAUSE": str(seconds)}
        if kind == "a checkpoint":
            more |= {
                "ACCELERATEDJOB_CHECKPOINT_DIR": str(Path(one.folder, "checkpoints")),
                "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "12",
            }
        one.env = more
        one.start(kind, "0")
        one.until(Path(one.folder, "since").exists, 120)
        if kind == "a pause of all ranks":
            one.signal_ranks(signal.SIGSTOP)
            time.sleep(seconds)
            one.signal_ranks(signal.SIGCONT)
        before = one.progress().get("step") or 0
        one.until(lambda: (one.progress().get("step") or 0) > before + 1, seconds + 60)
        one.stop()
        return "".join(line for line in one.log().splitlines() if "the training hangs" in line)


def lives(number: int) -> str:
    """Start and stop a training again and again; return the false verdicts.

    Args:
        number: how often.
    """
    found = ""
    for _ in range(number):
        with world(pods=1, processes=2) as one:
            one.start("nothing", "0")
            one.until(Path(one.folder, "since").exists, 120)
            one.stop()
            found += "".join(line for line in one.log().splitlines() if "hangs" in line)
    return found


def steps_until(kind: str, what: str, culprit: int, **options: Any) -> tuple[int, str]:
    """Return the steps until a verdict on a rank of two or three, and its sentence.

    Args:
        kind: the kind of verdict.
        what: what the rank does.
        culprit: the rank.
        **options: those of the world.
    """
    with world(pods=1, **options) as one:
        one.start(what, str(culprit))
        [verdict] = one.until(lambda: one.verdicts(kind), 300)
        return one.progress()["step"], verdict["text"]


@contextlib.contextmanager
def world(**options: Any) -> Iterator[World]:
    """Yield a world in a folder of its own; all its processes are ended."""
    with tempfile.TemporaryDirectory(prefix="hangs-") as folder:
        made = World(folder=Path(folder), **options)
        try:
            yield made
        finally:
            made.stop()
