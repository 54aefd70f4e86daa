"""Runs programs in forks of one process that has imported torch, which takes seconds of CPU time.

Each line that it reads is a request, as `world.run` writes it: programs that run at the same time.
It answers with their exit codes, as a line. If one fails, the others are killed.
"""

import contextlib
import ctypes
import json
import os
import runpy
import signal
import sys
import time
from typing import Any

import torch.distributed.checkpoint  # what is imported here, no program imports again
import torch.distributed.fsdp  # noqa: F401

import runtime.accelerator  # noqa: F401
from tests.distributed.storm_worlds import become

_PR_SET_PDEATHSIG = 1
_POLL = 0.01  # seconds


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(program: dict[str, Any]) -> None:
    """Run `FILE ARGUMENT...` or `-m MODULE ARGUMENT...`, as the interpreter does."""
    os.setsid()
    _end_with_parent()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for to, path in ((1, program["out"]), (2, program["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), to)
    argv = program["argv"]
    is_module = argv[0] == "-m"
    sys.argv = argv[is_module:]
    try:
        if is_module:
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _start(program: dict[str, Any]) -> int:
    """Fork a program; return its process ID."""
    pid = os.fork()
    if pid == 0:
        become(lambda: _run(program), program["env"])
    return pid


def _codes(pids: list[int], seconds: float) -> list[int]:
    """Wait for all; return their exit codes, those of signals negative."""
    codes: dict[int, int] = {}
    until, is_killed = time.monotonic() + seconds, False
    while len(codes) < len(pids):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(_POLL)
        if not is_killed and (any(codes.values()) or time.monotonic() > until):
            is_killed = True
            for one in set(pids) - set(codes):
                with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
                    os.killpg(one, signal.SIGKILL)
                os.kill(one, signal.SIGKILL)
    return [codes[pid] for pid in pids]


def main() -> None:
    """Answer requests until there are none any more."""
    _end_with_parent()
    for line in sys.stdin:
        request = json.loads(line)
        pids = [_start(program) for program in request["programs"]]
        sys.stdout.write(json.dumps(_codes(pids, request["seconds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
