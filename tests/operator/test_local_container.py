"""The first process of a local pod, whose end is noticed late: its exit code is its own."""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.lines import Line
from acceleratedjob.local.container import Container
from acceleratedjob.local.process import Command

MARK = "OF_THIS_CONTAINER"
ENDS = """
import pathlib, sys, time
while not pathlib.Path("end").exists(): time.sleep(0.01)
sys.exit(3)
"""


def ignore(_: Sequence[Line]) -> None:
    """Show nothing."""


async def started(folder: Path, script: str) -> Container:
    env = {**os.environ, MARK: str(folder)}
    command = Command([sys.executable, "-c", script], env, folder)
    return await Container.start(command, mark=MARK, grace_seconds=600, show=ignore)


def test_a_process_that_is_told_to_stop_when_it_has_just_ended_keeps_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waitpid, told = os.waitpid, threading.Event()

    def late(*process: Any) -> tuple[int, int]:
        """Wait as asyncio does, when the stop has come."""
        told.wait()
        return waitpid(*process)

    async def scenario() -> int:
        container = await started(tmp_path, ENDS)
        (tmp_path / "end").touch()
        ended = os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, container.process.pid, ended)  # noqa: ASYNC222  # asyncio would reap it
        container.stop(600)
        told.set()
        return await container.run()

    monkeypatch.setattr(os, "waitpid", late)
    assert asyncio.run(scenario()) == 3
