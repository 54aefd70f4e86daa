"""Jobs that are disturbed while they train, on any cluster: what happens, and what must hold."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import yaml

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Condition, Failure, Status
from tests.cluster.scripts.enduring import EPOCHS, GLOBAL_BATCH, SAMPLES

SCRIPT = Path(__file__).parent / "cluster" / "scripts" / "enduring.py"
COMMAND = [sys.executable, "-m", "runtime.launch", str(SCRIPT)]
STEPS = EPOCHS * (SAMPLES // GLOBAL_BATCH)
STALLS_AFTER, NEVER = 3, 600  # seconds
EVERY_STEPS = 4  # between two checkpoints
SPEC: Manifest = {
    "stallDeadlineSeconds": NEVER,  # pods may take long to start
    "failurePolicy": {
        "inPlaceRestarts": 2,
        "backoff": {"initialSeconds": 0},
        "rules": [{"action": "Restart", "reasons": ["Stalled"]}],  # hangs are not ended in place
    },
    "elastic": {"minReplicas": 2, "maxReplicas": 3},
}
ARE_ALL_TOLD = "ACCELERATEDJOB_STORMS" in os.environ  # else each story once, by some test
SECONDS = 600  # that a change may take on a machine with much else to do
WARM = 7  # steps after which a hang is found within seconds


class Enduring(Protocol):
    """A job on some cluster.

    Attributes:
        folder: the volume of its checkpoints.
        uid: the uid of the job.
    """

    folder: Path
    uid: str

    def status(self) -> Status:
        """Return its status."""

    def patch(self, spec: Manifest) -> None:
        """Change fields of its spec."""

    def drain(self) -> None:
        """Evict all of its pods."""

    def pods(self) -> list[tuple[str, ...]]:
        """Return the uid, the address and the node of each of its pods."""


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"{what} must come within {SECONDS} s"
        time.sleep(0.1)


def lines(file: Path) -> list[list[int]]:
    """Epoch, step and samples of the steps that a rank has recorded."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [[int(word) for word in line.split()] for line in whole.splitlines()]


def steps(job: Enduring, attempt: int, rank: int = 0) -> list[int]:
    """The steps that a rank has trained in an attempt."""
    return [step for _, step, *_ in lines(job.folder / f"{attempt}-{rank}")]


def trains(job: Enduring, more: int = WARM, after: int = -1) -> Status:
    """Wait until an attempt has trained some steps, and return the status.

    Args:
        job: the job.
        more: the number of steps.
        after: the attempt before.
    """

    def has_trained() -> bool:
        status = job.status()
        assert not status.finished, status.conditions
        return status.attempt > after and len(steps(job, status.attempt)) >= more

    until(has_trained, f"{more} steps of an attempt after {after}")
    return job.status()


def process(job: Enduring, attempt: int, rank: int) -> int:
    """The process of a rank on this machine."""
    sought = {
        f"ACCELERATEDJOB_UID={job.uid}".encode(),
        f"ACCELERATEDJOB_ATTEMPT={attempt}".encode(),
        f"RANK={rank}".encode(),
    }
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            env, argv, (name, *_) = (
                (folder / name).read_bytes().split(b"\0") for name in ("environ", "cmdline", "comm")
            )
        except OSError:  # it has ended
            continue
        is_rank = b"runtime.launch" not in argv and name.strip() != b"standby"
        if is_rank and sought <= set(env) and os.fsencode(SCRIPT) in argv:
            return int(folder.name)
    raise AssertionError(f"rank {rank} of attempt {attempt} must run")


# The stories: what happens, and what the status says then.


def is_killed(job: Enduring) -> None:
    """Twice, which costs no pod, and again, which costs all: it is restarted in place only twice.

    The first time it is asked to stop, behind the launcher's back, so that all ranks stop.
    """
    before = trains(job)
    goes_on_in_place(job, signal.SIGTERM)
    (killed, *_) = goes_on_in_place(job, signal.SIGKILL)
    assert (killed.replica, killed.signal) == (1, signal.SIGKILL)
    os.kill(process(job, before.attempt, 1), signal.SIGKILL)
    after = trains(job, 1, before.attempt)
    assert after.restarts == before.restarts + 1
    assert after.failures[0].replica == 1
    assert after.failures[0].signal == signal.SIGKILL


def goes_on_in_place(job: Enduring, sent: signal.Signals) -> tuple[Failure, ...]:
    """Send a signal to rank 1, wait for a step of the next life, and return the failures."""
    before, pods = job.status(), job.pods()
    os.kill(process(job, before.attempt, 1), sent)
    until(lambda: job.status().life > before.life, "another life")
    trained = len(steps(job, before.attempt, 1))
    until(lambda: len(steps(job, before.attempt, 1)) > trained, "a step of it")
    after = job.status()
    assert (after.attempt, after.restarts) == (before.attempt, before.restarts)
    assert after.restarts_in_place == before.restarts_in_place + 1
    assert after.failures[0].life == before.life
    assert job.pods() == pods
    return after.failures


def is_suspended_and_resumed(job: Enduring) -> None:
    before = trains(job)
    job.patch({"suspend": True})
    until(lambda: job.status().phase == "Suspended" and not job.status().terminating, "its end")
    job.patch({"suspend": False})
    after = trains(job, 1, before.attempt)
    assert (after.restarts, after.failures) == (before.restarts, before.failures)
    goes_on_exactly(job, before, after)


def is_drained(job: Enduring) -> None:
    before = trains(job)
    job.drain()
    after = trains(job, 1, before.attempt)
    assert after.restarts == before.restarts  # it is free
    failure = after.failures[0]
    assert (failure.attempt, failure.reason) == (before.attempt, "EvictionByEvictionAPI")
    goes_on_exactly(job, before, after)


def hangs(job: Enduring) -> None:
    """Not while it saves: that may take long, and is judged later."""
    before = trains(job, WARM + 3)
    pid = process(job, before.attempt, 1)
    until(lambda: steps(job, before.attempt)[-1] % EVERY_STEPS == 1, "the step after a checkpoint")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_said_to_hang(job, 1), "the verdict on rank 1")
    job.patch({"stallDeadlineSeconds": STALLS_AFTER})  # before, it would end who is only slow
    until(lambda: job.status().attempt > before.attempt, "another attempt")
    job.patch({"stallDeadlineSeconds": NEVER})
    after = trains(job, 1, before.attempt)
    assert after.restarts == before.restarts + 1
    failure = after.failures[0]
    assert (failure.reason, failure.rank, failure.replica) == ("Stalled", 1, 1), failure
    assert failure.since is not None
    assert failure.since < failure.time
    assert condition(after, "Hanging").status == "False"
    assert after.stall is None


def is_said_to_hang(job: Enduring, rank: int) -> bool:
    """Whether the status says now that this rank hangs."""
    hanging = (one for one in job.status().conditions if one.type == "Hanging")
    return any(one.status == "True" and f"rank {rank} " in one.message for one in hanging)


def grows_and_shrinks(job: Enduring) -> None:
    for size in (3, 2):
        before = trains(job)
        job.patch({"replicas": size})
        after = trains(job, 1, before.attempt)
        assert (after.size, after.world_size) == (size, size)
        assert after.resizes == before.resizes + 1
        assert (after.restarts, after.failures) == (before.restarts, before.failures)
        goes_on_exactly(job, before, after)


def ends(job: Enduring) -> Status:
    """Let it train as fast as it can, and return its last status."""
    (job.folder / "fast").touch()
    until(lambda: job.status().finished, "its end")
    status = job.status()
    assert status.phase == "Succeeded"
    assert status.progress is not None
    assert (status.progress.step, status.progress.total_steps) == (STEPS, STEPS)
    assert status.progress.percent == 100
    assert status.progress.epoch == status.progress.epochs == EPOCHS
    assert status.checkpoint is not None
    assert status.goodput is not None
    assert 0 < (status.goodput.ratio or 0) < 1
    return status


def condition(status: Status, type_: str) -> Condition:
    """A condition that must be there."""
    return next(one for one in status.conditions if one.type == type_)


# What must hold at the end.


def goes_on_exactly(job: Enduring, before: Status, after: Status) -> None:
    """An attempt that was asked to stop loses no step, and repeats none."""
    assert steps(job, after.attempt)[0] == steps(job, before.attempt)[-1] + 1


def every_sample_counts_once(job: Enduring) -> None:
    """Of a step that was trained again, the last time counts, also within an attempt."""
    found: dict[int, tuple[int, int]] = {}
    samples: dict[tuple[int, int], list[int]] = {}
    for file in job.folder.glob("[0-9]*-[0-9]*"):
        attempt = int(file.name.partition("-")[0])
        for step, (epoch, read) in {
            step: (epoch, read) for epoch, step, *read in lines(file)
        }.items():
            found[step] = max(found.get(step, (0, 0)), (attempt, epoch))
            samples.setdefault((step, attempt), []).extend(read)
    assert sorted(found) == list(range(1, STEPS + 1))
    counts: list[Counter[int]] = [Counter() for _ in range(EPOCHS)]
    for step, (attempt, epoch) in found.items():
        counts[epoch].update(samples[step, attempt])
    assert counts == [Counter(range(SAMPLES))] * EPOCHS


def weights(folder: Path) -> list[str]:
    """The final weights, exactly."""
    return (folder / "weights").read_text().splitlines()


# A run that nobody disturbs.


def container(**more: Any) -> Manifest:
    """The container of a pod that trains on this machine."""
    return {"name": "trainer", "image": "x", "command": COMMAND, **more}


def manifest(checkpoint: Manifest, **template: Any) -> Manifest:
    """The job, in a namespace of its caller's."""
    pod = {"containers": [container()], **template}
    return {
        "apiVersion": "accelerated.dev/v1alpha1",
        "kind": "AcceleratedJob",
        "metadata": {"name": "digits"},
        "spec": {"replicas": 2, "template": {"spec": pod}, "checkpoint": checkpoint, **SPEC},
    }


LOCAL: Manifest = {  # a folder beside the manifest takes its place
    "volume": {
        "volumeClaimTemplate": {
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            }
        }
    },
    "everySteps": EVERY_STEPS,
}


def undisturbed(folder: Path) -> list[str]:
    """Run the job on this machine, and return its final weights."""
    volume = folder / "digits-checkpoint"
    volume.mkdir(parents=True)
    (volume / "fast").touch()
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(manifest(LOCAL)))
    command = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return weights(volume)


@contextmanager
def all_ends(job: Enduring) -> Iterator[None]:
    """Inside the block, a failed test leaves no process behind that was stopped by a story."""
    try:
        yield
    finally:
        for attempt, rank in itertools.product(range(10), range(3)):
            with suppress(AssertionError, ProcessLookupError):  # it has ended
                os.kill(process(job, attempt, rank), signal.SIGKILL)
