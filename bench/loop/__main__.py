"""Measure what the fault-tolerant loop costs on this machine, and print a table.

    python -m bench.loop            all rows; takes minutes
    python -m bench.loop pause      the rows whose names begin with a word

Close other programs first, because they affect the times.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from bench.machine import load
from runtime import Accelerator
from runtime.checkpoint.checkpointer import Target
from runtime.checkpoint.snapshot import Snapshots

ROUNDS = 5
_STATE = 402_653_184  # bytes: a model of 134 MB with Adam


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement beside what it is compared with.

    Attributes:
        name: what was measured.
        ours: the measurement.
        floor: what it is compared with, in the same unit; None if it is compared with nothing.
        unit: the unit.
        goal: what the design asks for.
    """

    name: str
    ours: float
    floor: float | None
    unit: str
    goal: str

    def __str__(self) -> str:
        ratio = "" if self.floor is None else f"{self.ours / self.floor:6.3f} x"
        floor = "" if self.floor is None else f"{self.floor:10.4f}"
        more = "" if self.floor is None else f"{self.ours - self.floor:+10.4f}"
        numbers = f"{self.ours:10.4f} {floor:>10} {more:>10} {self.unit:4} {ratio:>9}"
        return f"{self.name:52} {numbers}  {self.goal}"


def pause() -> Iterator[Row]:
    """Compare the pause for a checkpoint with a memcpy of the same bytes."""
    layers = [nn.Linear(1024, 1024, bias=False) for _ in range(_STATE // (3 * 4 * 1024**2))]
    accelerator = Accelerator(cpu=True)
    _, optimizer = accelerator.prepare(
        nn.ModuleList(layers), torch.optim.AdamW(nn.ModuleList(layers).parameters())
    )
    accelerator.backward(sum((one.weight.sum() for one in layers), torch.zeros(())))
    optimizer.step()
    optimizer.zero_grad()
    source = torch.ones(_STATE, dtype=torch.uint8)
    target = torch.ones(_STATE, dtype=torch.uint8)
    pauses, copies = [], []
    with _folder() as folder:
        for index in range(ROUNDS + 1):
            copies.append(_seconds(lambda: target.copy_(source)))
            where = folder / f"checkpoint_{index}"
            pauses.append(
                _seconds(
                    lambda where=where: accelerator._checkpointer.write(  # type: ignore[misc]  # noqa: SLF001
                        Target(folder=where), then=lambda: None, scaler=None
                    )
                )
            )
            accelerator.wait_for_checkpoint()
            shutil.rmtree(where)
    ours, floor = statistics.median(pauses[1:]), statistics.median(copies[1:])
    yield Row("pause of a checkpoint of 403 MB / memcpy", ours, floor, "s", "<= 1.1 x")
    yield Row("pause of the first one, which makes its memory", pauses[0], floor, "s", "")


def small() -> Iterator[Row]:
    """Compare the pause for many small tensors with a copy of each, and with torch's pickle."""
    weights = torch.nn.ParameterList(torch.zeros(64) for _ in range(3000))
    accelerator = Accelerator(cpu=True)
    _, optimizer = accelerator.prepare(weights, torch.optim.AdamW(weights.parameters()))
    accelerator.backward(sum((one.sum() for one in weights), torch.zeros(())))
    optimizer.step()
    state = [weights.state_dict(), optimizer.state_dict()]
    tensors = [one.detach() for one in weights]
    tensors += [one for values in optimizer.state.values() for one in values.values()]
    snapshots, ours, clones, pickles = Snapshots(), [], [], []
    for _ in range(ROUNDS + 1):
        ours.append(_seconds(lambda: snapshots.take(state)))
        clones.append(_seconds(lambda: [one.clone() for one in tensors]))
        pickles.append(_seconds(lambda: torch.save(state, io.BytesIO())))
    mine = statistics.median(ours[1:])
    name = f"copy of {len(tensors)} small tensors"
    yield Row(f"{name} / clones", mine, statistics.median(clones[1:]), "s", "")
    yield Row(f"{name} / torch.save", mine, statistics.median(pickles[1:]), "s", "")


def boundary() -> Iterator[Row]:
    """Compare the CPU time of a step with and without the loop."""
    module = ["-m", "bench.loop.boundary"]
    for size in (0, 1, 2, 4):
        launch = ["-m", "runtime.launch", "--standalone", "--nproc-per-node", str(size)]
        with _folder() as folder:
            found = _printed(
                [sys.executable, *(launch if size else []), *module],
                ACCELERATEDJOB_CHECKPOINT_DIR=str(folder),
                ACCELERATEDJOB_CHECKPOINT_EVERY_SECONDS="86400",
            )
        how = f"with the channel, {size} ranks" if size else "alone"
        yield Row(f"CPU of a step, {how}", found["ours"], found["floor"], "us", "<= floor + 5 us")
        name = f"CPU of a step in all threads, {how}"
        yield Row(name, found["all_ours"], found["all_floor"], "us", "")
        if size:
            name = f"CPU of all other threads of rank 0, {size} ranks"
            yield Row(name, 100 * found["others"], None, "%", "")


def continuous() -> Iterator[Row]:
    """Compare the time of a step with and without continuous checkpoints."""
    for size in (1, 2):
        for megabytes in (25, 100):
            options = ["--megabytes", str(megabytes), "--steps", "1500"]
            with _folder() as folder:
                ours = _trained(size, options, ACCELERATEDJOB_CHECKPOINT_DIR=str(folder))
            floor = _trained(size, options)
            name = f"step, continuous checkpoints of {megabytes} MB, {size} ranks"
            yield Row(name, 1000 * ours, 1000 * floor, "ms", "<= 1.01 x")


def resume() -> Iterator[Row]:
    """Compare the bytes that a resume reads, and the memory that it takes, with the state."""
    for size in (1, 2, 4):
        launch = ["-m", "runtime.launch", "--standalone", "--nproc-per-node", str(size)]
        command = [sys.executable, *launch, "-m", "bench.loop.resuming"]
        with _folder() as folder:
            env = {
                "ACCELERATEDJOB_CHECKPOINT_DIR": str(folder),
                "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "4",
            }
            _printed(command, **env)
            found = {name: one / 1e6 for name, one in _printed(command, **env).items()}
        state = found["state"]
        yield Row(f"bytes read at resume, {size} ranks", found["read"], state, "MB", "<= 2 x")
        name = f"memory of a resume beyond the state, {size} ranks"
        yield Row(name, found["memory"], state, "MB", "<= 1 x")


def stop() -> Iterator[Row]:
    """Measure the time from SIGTERM to the exit, with a checkpoint of 400 MB."""
    for size in (1, 2, 4):
        options = ["--megabytes", "400", "--steps", "100000"]
        found, floors = [], []
        for _ in range(3):
            found.append(_stopped(size, options))
            floors.append(_written(400 * 10**6))
        saved, ended = (statistics.median(one) for one in zip(*found, strict=True))
        floor = statistics.median(floors)
        yield Row(f"SIGTERM to a checkpoint of 400 MB, {size} ranks", saved, floor, "s", "")
        yield Row(f"from there to the launcher's exit, {size} ranks", ended, None, "s", "")


def _command(size: int, options: list[str]) -> list[str]:
    launch = ["-m", "runtime.launch", "--standalone", "--nproc-per-node", str(size)]
    return [sys.executable, *launch, "-m", "bench.loop.training", *options]


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | more


def _trained(size: int, options: list[str], **env: str) -> float:
    """Return the seconds of a step."""
    return float(_printed(_command(size, options), **env)["seconds"])


def _printed(command: list[str], **env: str) -> dict[str, Any]:
    """Return the JSON object that a command prints as its last line."""
    done = subprocess.run(command, env=_environment(**env), stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _written(bytes_: int) -> float:
    """Return the seconds for torch.save of a tensor, and a flush to disk."""
    state = torch.ones(bytes_, dtype=torch.uint8)

    def write() -> None:
        with (folder / "state").open("wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())

    with _folder() as folder:
        return _seconds(write)


def _stopped(size: int, options: list[str]) -> tuple[float, float]:
    """Return the seconds from SIGTERM to the checkpoint, and from there to the launcher's end."""
    with _folder() as folder:
        env = _environment(
            ACCELERATEDJOB_CHECKPOINT_DIR=str(folder),
            ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS="50",
            ACCELERATEDJOB_STOP_GRACE_SECONDS="120",
        )
        process = subprocess.Popen(_command(size, options), env=env, stderr=subprocess.PIPE)
        said: list[float] = []
        reader = threading.Thread(target=_note, args=(process.stderr, b"stopped at step", said))
        reader.start()
        while not any(folder.glob("checkpoint_*/manifest.json")):  # it trains
            time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        ended = time.monotonic()
        reader.join()
        assert process.stderr is not None  # noqa: S101  # it is a pipe
        process.stderr.close()
    if code != 143:  # noqa: PLR2004  # the code of a stop
        sentence = f"the training must stop with exit code 143, got {code}"
        raise AssertionError(sentence)
    return said[0] - began, ended - said[0]


def _note(lines: IO[bytes], words: bytes, times: list[float]) -> None:
    """Note when lines with some words come."""
    times += [time.monotonic() for line in lines if words in line]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


ROWS: tuple[Callable[[], Iterator[Row]], ...] = (boundary, pause, small, continuous, resume, stop)


def main() -> None:
    """Measure, and print each row as it is known."""
    parser = argparse.ArgumentParser("python -m bench.loop", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of rows")
    names = parser.parse_args().names
    titles = f"{'ours':>10} {'floor':>10} {'more':>10} {'':4} {'ratio':>9}"
    print(f"{'':52} {titles}  goal      load {load()}")
    for rows in ROWS:
        if not names or rows.__name__ in names:
            for row in rows():
                print(row, flush=True)


if __name__ == "__main__":
    main()
