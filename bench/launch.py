"""Launching a script: the time until its first line runs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.case import Case, Goal
from bench.libraries import TORCH, Timed

# All processes share CLOCK_MONOTONIC.
SCRIPT = "import sys, time; sys.stdout.write(f'{time.monotonic()} {sys.argv[1:]}\\n')\n"


def launched(library: str) -> Timed:
    """Launch a script in one process; measures seconds until its first line runs."""

    def run() -> tuple[float, str]:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "script.py")
            script.write_text(SCRIPT)
            command = [*_launcher(library), str(script), "--lr", "0.1"]
            began = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        first, arguments = done.stdout.splitlines()[-1].split(" ", 1)
        return float(first) - began, arguments

    return Timed(lambda: run()[1], lambda: run()[0])


def _launcher(library: str) -> list[str]:
    """Return the command before the script; the floor is Python only."""
    if library == TORCH:
        return [sys.executable]
    if library == "runtime":
        return [sys.executable, "-m", "runtime.launch"]
    return [
        *(str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu"),
        *("--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"),
        *("--dynamo_backend", "no"),
    ]


_ALONE: dict[str, int] = {}
CASES = [
    Case(
        name="launch",
        theme="launch",
        what="Launch a script in one process, until its first line runs",
        program=launched,
        unit="s",
        sizes=[_ALONE],
        quick=[_ALONE],
        floor_is="starting Python only",
        goal=Goal(kind="in all", limit=0.1, at=_ALONE),
    )
]
