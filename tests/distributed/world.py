"""Starts a world of real processes that talk over gloo, and collects what each has found."""

import atexit
import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from acceleratedjob.local.process import free_port

SILENCE = 600  # seconds without a line of any process: a world that hangs
# Accelerate's forked workers hang now and then before their first line (runtime/data/forking.py). A
# line names each case, so that a shorter silence tells.
TRIES = {"accelerate": 3, "runtime": 1}
SILENCES = {"accelerate": 200, "runtime": SILENCE}
# Of the worlds of `programs.CASES`; in a world of one process Accelerate cannot run all of them.
SIZES = {"accelerate": (2, 3), "runtime": (1, 2, 3, 4)}
ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).with_name("programs.py")


SCRIPT = {  # variables of a script of this project; one thread a process: the cores are few
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "operator")]),
}


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would set, and one thread a process: the cores are few."""
    names = {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": ROOT,
    }
    return os.environ | {name: str(value) for name, value in names.items()}


def on_machines_of_two(rank: int, size: int, port: int) -> dict[str, str]:
    """The same, as if every second process began another machine."""
    names = {"LOCAL_RANK": rank % 2, "LOCAL_WORLD_SIZE": min(size - rank // 2 * 2, 2)}
    return environment(rank, size, port) | {name: str(value) for name, value in names.items()}


def machines_of_one(rank: int, size: int, port: int) -> dict[str, str]:
    """The same, as if each process were alone on its machine."""
    return environment(rank, size, port) | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def start(command: list[str], env: dict[str, str]) -> "subprocess.Popen[str]":
    """One process, its output kept."""
    return subprocess.Popen(
        command,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process that `start` has made, and all that it has left: they hold its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def finish(processes: list["subprocess.Popen[str]"], silence: float = SILENCE) -> list[str]:
    """Wait for all; as soon as one fails, or all are silent, end all and show what each has said.

    Args:
        processes: what `start` has made.
        silence: the seconds without a line after which all are ended.
    """
    said: list[list[str]] = [[] for _ in processes]
    news: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # exit codes; None: a line
    with ThreadPoolExecutor(2 * len(processes)) as pool:
        for process, lines in zip(processes, said, strict=True):
            pool.submit(_listen, process, lines, news)
            pool.submit(_await_end, process, news)
        _await_ends(len(processes), news, silence)
        for process in processes:
            end(process)
    codes = [process.returncode for process in processes]
    outputs = ["".join(lines) for lines in said]
    assert not any(codes), f"exit codes {codes}\n" + "\n".join(
        f"--- rank {rank}\n{output[-3000:]}" for rank, output in enumerate(outputs)
    )
    return outputs


def _listen(
    process: "subprocess.Popen[str]", lines: list[str], news: "queue.SimpleQueue[int | None]"
) -> None:
    assert process.stdout is not None  # `start` has made a pipe
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            news.put(None)


def _await_end(process: "subprocess.Popen[str]", news: "queue.SimpleQueue[int | None]") -> None:
    news.put(process.wait())


def _await_ends(running: int, news: "queue.SimpleQueue[int | None]", silence: float) -> None:
    """Return when all processes have ended, one has failed, or none has said anything for long."""
    with contextlib.suppress(queue.Empty):  # shown as the exit code of the kill
        while running:
            code = news.get(timeout=silence)
            if code:
                return
            running -= code is not None


class Done(NamedTuple):
    """How a program has ended, and what it has written."""

    code: int
    out: str
    err: str


Program = tuple[list[str], Mapping[str, str]]  # `FILE ARGUMENT...` or `-m MODULE ARGUMENT...`; env


def forked(*programs: Program, seconds: float = 600) -> list[Done]:
    """Run programs at the same time, in forks of a process that has imported torch already.

    If one fails, the others are killed.

    Args:
        programs: their arguments and variables.
        seconds: after which all are killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder, f"{i}.out"), Path(folder, f"{i}.err")) for i in range(len(programs))]
        asked = [
            {"argv": argv, "env": dict(env), "out": str(out), "err": str(err)}
            for (argv, env), (out, err) in zip(programs, files, strict=True)
        ]
        codes = _answer({"programs": asked, "seconds": seconds})
        found = zip(codes, files, strict=True)
        return [Done(code, out.read_text(), err.read_text()) for code, (out, err) in found]


def _answer(request: dict[str, Any]) -> Any:
    process = _zygote()
    assert process.stdin is not None  # `_zygote` has made pipes
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@functools.cache
def _zygote() -> "subprocess.Popen[str]":
    """The process of which programs are forks; one for all tests of this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.zygote"],
        env=os.environ | SCRIPT,
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(process.communicate)  # it ends when nobody can ask it any more
    return process


def told_by(script: str, *arguments: str) -> Any:
    """The JSON that a script of this folder writes, which starts its worlds itself."""
    argv = [str(Path(__file__).with_name(script)), *arguments]
    (done,) = forked((argv, os.environ | SCRIPT))
    assert done.code == 0, done.err[-5000:]
    return json.loads(done.out)


def told_by_ranks(program: str, size: int) -> list[dict[str, Any]]:
    """The JSON that each rank of a world writes last; a program of this folder runs in each."""
    port, argv = free_port(), [str(Path(__file__).with_name(program))]
    ranks = forked(*((argv, environment(rank, size, port)) for rank in range(size)))
    assert not any(done.code for done in ranks), [done.err[-3000:] for done in ranks]
    return [json.loads(done.out.splitlines()[-1]) for done in ranks]


def results(library: str, size: int) -> list[dict[str, Any]]:
    """What each rank of a world has found for every case of `programs.CASES`."""
    found = _worlds(library).get(size)
    if isinstance(found, list):
        return found
    raise AssertionError(found)


@functools.cache
def _worlds(library: str) -> dict[int, list[dict[str, Any]] | str]:
    """Worlds of each size, once for all tests, also if they fail; each is tried some times."""
    found: dict[int, list[dict[str, Any]] | str] = {}
    for _ in range(TRIES[library]):
        missing = [size for size in SIZES[library] if not isinstance(found.get(size), list)]
        if missing:
            found |= _run(library, missing)
    return found


def _run(library: str, sizes: list[int]) -> dict[int, list[dict[str, Any]] | str]:
    """Run worlds one after the other; one that fails does not keep the others from it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(PROGRAMS), library, folder, *map(str, sizes)]
        failed = ""
        try:
            finish([start(command, os.environ | SCRIPT)], SILENCES[library])
        except AssertionError as error:
            failed = str(error)
        files = {size: Path(folder, str(size)) for size in sizes}
        return {
            size: json.loads(file.read_text()) if file.exists() else failed
            for size, file in files.items()
        }
