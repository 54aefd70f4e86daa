"""What the launcher writes to the log."""

import contextlib
import os

_STDERR = 2  # not `sys.stderr`, whose buffer keeps what cannot be written, and fails again at exit


def say(text: str) -> None:
    """Write a line to the log, even if nobody reads it any more."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"runtime.launch: {text}\n".encode(errors="replace"))
