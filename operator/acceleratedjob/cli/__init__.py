"""The command line: parses arguments, and calls the commands.

Only click is imported with it. What a command needs is imported when it runs, so that `--help`,
`--version` and completion need neither an extra nor the time to import one.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from acceleratedjob.cli.completion import COMPLETE
from acceleratedjob.cli.program import program
from acceleratedjob.exits import EXIT_INTERRUPTED, EXIT_USAGE

__all__ = ["main", "program"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a disk, or of a file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    _prepare_output()
    try:
        code: int | None = program.main(
            arguments, prog_name=_name(), complete_var=COMPLETE, standalone_mode=False
        )
        sys.stdout.flush()
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # avoid an error at the last flush
        print(f"{_name()}: cannot write: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    return code or 0


def _prepare_output() -> None:
    """Let everything be printed: a stream may be closed, and an encoding may lack characters."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
    if sys.stderr is None:
        sys.stderr = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _name() -> str:
    """Return how the program was called: by its name, or as a plugin of kubectl."""
    plugin = "kubectl-acceleratedjob"
    return plugin.replace("-", " ", 1) if Path(sys.argv[0]).stem == plugin else "acceleratedjob"
