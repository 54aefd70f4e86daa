"""Lives of a training on real processes, whose ranks are forks of this process.

What imports torch once is quick enough for hundreds of lives: the launcher is a fork, and before it
has any thread it forks the processes that it will "start".
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import safetensors.torch  # noqa: F401  # what is imported here, no life imports again
import torch
import torch._dynamo  # what each first optimizer imports

from acceleratedjob.local.process import free_port
from runtime.launch import __main__ as launch
from runtime.launch import processes
from tests.distributed.world import SCRIPT

# Behind a fork torch makes its pool of threads anew, and fails with "Invalid thread pool!" if two
# threads of autograd are the first to ask for it.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_PR_SET_PDEATHSIG = 1
FILE = "STORM_FILE"  # the variable of the script
MEMORY_OF_EACH = "STORM_MEMORY"  # the variable of the parent of each rank's memory


def at_once(most: int, jobs: Iterable[Callable[[], None]]) -> None:
    """Run jobs, each in a fork of this process, several at once; most of a life is waiting.

    Args:
        most: how many run at once.
        jobs: what to run; each reaps all that it starts.

    Raises:
        RuntimeError: a job has failed.
    """
    torch.set_num_threads(1)  # the forks keep it; a second thread of each would only wait
    gc.freeze()  # what no fork writes, none copies
    running: set[int] = set()
    failed = 0
    for job in jobs:
        if len(running) == most:
            failed += _reap(running)
        running.add(_fork_job(job))
    while running:
        failed += _reap(running)
    gc.unfreeze()  # triton would call what is left a leak
    if failed:
        raise RuntimeError(f"{failed} jobs have failed")


def _fork_job(job: Callable[[], None]) -> int:
    def run() -> None:
        processes.adopt_orphans()
        job()

    pid = os.fork()
    if pid == 0:
        become(run, dict(os.environ))
    return pid


def _reap(running: set[int]) -> bool:
    """Wait for a job, and return whether it has failed."""
    pid, status = os.wait()
    running.discard(pid)
    return status != 0


def by_forked_launcher(size: int, env: Mapping[str, str], log: Path) -> dict[str, int]:
    """Start the launcher as a fork; return the process IDs by their roles."""

    def run() -> None:
        blanks = _Blanks(size)
        processes.start = blanks.start
        sys.argv = ["launch", *_flags(size, env)]
        launch.main()

    return {"launcher": fork(run, env, log)}


def run_script() -> None:
    """Run the script that the environment names."""
    sys.argv = [os.environ[FILE]]
    runpy.run_path(os.environ[FILE], run_name="__main__")


def by_launcher(size: int, env: Mapping[str, str], log: Path) -> dict[str, int]:
    """Start `python -m runtime.launch`; return the process IDs by their roles."""
    command = [sys.executable, "-m", "runtime.launch", *_flags(size, env)]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env={**env, **SCRIPT}, stdout=file, stderr=file)
    process.returncode = 0  # it is reaped by others
    return {"launcher": process.pid}


def without_launcher(size: int, env: Mapping[str, str], log: Path) -> dict[str, int]:
    """Start each rank by itself, as forks; return the process IDs by their roles."""
    port = str(free_port())
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"LOCAL_WORLD_SIZE": str(size)}
    if "ACCELERATEDJOB_REPLICAS" in env:
        shared |= {"ACCELERATEDJOB_REPLICAS": "1"}
    return {
        f"rank {rank}": fork(run_script, {**env, **shared, **_of_rank(rank, size, env)}, log)
        for rank in range(size)
    }


def _of_rank(rank: int, size: int, env: Mapping[str, str]) -> dict[str, str]:
    """What differs between ranks; with memory of its own each is alone on its machine."""
    if MEMORY_OF_EACH not in env:
        return {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "ACCELERATEDJOB_REPLICAS": str(size),
        "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1",
        "ACCELERATEDJOB_REPLICA_INDEX": str(rank),
        "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR": f"{env[MEMORY_OF_EACH]}/machine {rank}",
    }


def fork(run: Callable[[], None], env: Mapping[str, str], log: Path) -> int:
    """Run a function in a fork that ends as an interpreter does; return the process ID."""
    pid = os.fork()
    if pid == 0:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        become(run, env)
    return pid


def become(run: Callable[[], None], env: Mapping[str, str]) -> NoReturn:
    """Run a function in this fork, and end it as an interpreter ends."""
    os.environ.clear()
    os.environ.update(env)
    code = 0
    try:
        run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  # whatever it is, it must not go on as the parent
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does
    atexit._run_exitfuncs()
    os._exit(code)


class _Blanks:
    """Processes that wait for their environment; made before the launcher has threads."""

    def __init__(self, size: int) -> None:
        self._waiting: list[tuple[int, int]] = []
        for _ in range(size):
            reads, writes = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(writes)
                for _, other in self._waiting:
                    os.close(other)
                _wait_and_train(reads)
            os.close(reads)
            self._waiting.append((pid, writes))

    def start(self, argv: Sequence[str], env: Mapping[str, str], *, reads_stdin: bool) -> int:
        """As `processes.start`."""
        del argv, reads_stdin
        pid, writes = self._waiting.pop(0)
        try:
            with os.fdopen(writes, "w") as pipe:
                json.dump(dict(env), pipe)
        except BrokenPipeError:
            # It was killed before it was started: as if it had been right afterwards. The launcher
            # has taken the report of its end already, for which it had no use.
            os.kill(os.getpid(), signal.SIGCHLD)
        return pid


def _wait_and_train(reads: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(reads) as pipe:
        env = pipe.read()
    if not env:
        os._exit(1)  # the launcher ended before it has started this
    become(run_script, json.loads(env))


def _flags(size: int, env: Mapping[str, str]) -> list[str]:
    return ["--standalone", "--nproc-per-node", str(size), env[FILE]]
