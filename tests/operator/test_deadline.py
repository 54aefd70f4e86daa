"""A process that was asked to end and does not is ended by force, whatever holds it up."""

import subprocess
import sys

import pytest

from acceleratedjob.exits import EXIT_HELD_UP

PROGRAM = """
import asyncio, threading
from acceleratedjob.manager.shutdown import end_within

async def goodbye():
    {waits}

async def main():
    task = asyncio.create_task(goodbye())
    end_within(asyncio.get_running_loop(), 0.1)
    await asyncio.gather(task)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "waits",
    [
        pytest.param("await asyncio.Event().wait()", id="a task that waits for ever"),
        pytest.param("threading.Event().wait()", id="a loop that stands still"),
    ],
)
def test_what_is_held_up_is_ended_and_says_by_what(waits: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(waits=waits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == EXIT_HELD_UP
    assert "shutdown timed out, exiting without waiting for" in done.stderr
    assert "goodbye" in done.stderr


def test_who_ends_in_time_is_left_alone() -> None:
    command = [sys.executable, "-c", PROGRAM.format(waits="pass").replace("0.1", "600")]
    assert subprocess.run(command, timeout=600, check=False).returncode == 0
