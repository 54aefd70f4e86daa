"""Lines for the person who reads a job's log."""

import sys

from runtime.world.state import PartialState


def say(sentence: str) -> None:
    """Write a line to stderr, on the main process only.

    The line must be seen in the log of a job whose script has not configured logging.
    """
    if PartialState().is_main_process:
        sys.stderr.write(f"runtime: {sentence}\n")
        sys.stderr.flush()
