"""The command line: parses arguments, and calls the commands.

Only click is imported with it. What a command needs is imported when it runs, so that `--help`,
`--version` and completion need neither an extra nor the time to import one.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from acceleratedjob.cli.completion import COMPLETE
from acceleratedjob.cli.program import program
from acceleratedjob.exits import EXIT_INTERRUPTED

__all__ = ["main", "program"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an encoding may lack characters of the output
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int | None = program.main(
            arguments, prog_name=_name(), complete_var=COMPLETE, standalone_mode=False
        )
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code or 0


def _name() -> str:
    """Return how the program was called: by its name, or as a plugin of kubectl."""
    plugin = "kubectl-acceleratedjob"
    return plugin.replace("-", " ", 1) if Path(sys.argv[0]).stem == plugin else "acceleratedjob"
