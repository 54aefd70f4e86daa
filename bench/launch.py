"""Starting a script: how soon its first line runs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from acceleratedjob.local.process import free_port
from bench.case import Case, Goal
from bench.libraries import TORCH, Timed

# CLOCK_MONOTONIC is one for all processes.
SCRIPT = "import sys, time; sys.stdout.write(f'{time.monotonic()} {sys.argv[1:]}\\n')\n"


def launched(library: str, *, pod_processes: int) -> Timed:
    """Start a script in so many processes; seconds until the last of them runs it."""
    folder = tempfile.TemporaryDirectory()
    script = Path(folder.name, "script.py")
    script.write_text(SCRIPT)

    def lines() -> list[list[str]]:
        command = [*_launcher(library, pod_processes), str(script), "--lr", "0.1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        found = [line.split(" ", 1) for line in done.stdout.splitlines()]
        expected = 1 if library == TORCH else pod_processes
        if len(found) != expected or not folder.name:
            sentence = f"{command} must start {expected} scripts, got {done.stdout!r}"
            raise AssertionError(sentence)
        return found

    def sample() -> float:
        began = time.monotonic()
        return max(float(first) for first, _ in lines()) - began

    return Timed(lambda: [arguments for _, arguments in lines()][:1], sample)


def _launcher(library: str, processes: int) -> list[str]:
    """What stands before the script; a floor is Python itself, once."""
    if library == TORCH:
        return [sys.executable]
    number = str(processes)
    if library == "runtime":
        flags = ["--nproc-per-node", number, "--master-port", str(free_port())]
        return [sys.executable, "-m", "runtime.launch", *flags]
    return [
        *(str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu"),
        *("--num_processes", number, "--num_machines", "1", "--mixed_precision", "no"),
        *("--dynamo_backend", "no", "--main_process_port", str(free_port())),
    ]


_STARTED = [{"pod_processes": 1}, {"pod_processes": 2}]
CASES = [
    Case(
        name="launch",
        theme="launch",
        what="Launch a script, to its first line",
        program=launched,
        unit="s",
        sizes=_STARTED,
        quick=_STARTED[:1],
        floor_is="Python alone, one process",
        goal=Goal(kind="in all", limit=0.1, at=_STARTED[0]),
    )
]
