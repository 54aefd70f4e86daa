"""The command and the group of click that all commands are made of."""

import os
import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from acceleratedjob.commands.errors import Misuse, NotDone
from acceleratedjob.errors import ClusterError, InvalidSpec, NotFound
from acceleratedjob.exits import EXIT_NOT_FOUND, EXIT_TIMEOUT, EXIT_UNAVAILABLE, EXIT_USAGE
from acceleratedjob.terminal import lines

# The first class that an error is of decides.
CODES: dict[type[Exception], int] = {
    InvalidSpec: EXIT_USAGE,
    Misuse: EXIT_USAGE,
    NotFound: EXIT_NOT_FOUND,
    ClusterError: EXIT_UNAVAILABLE,
    NotDone: EXIT_TIMEOUT,
}
EXIT_CODES = (
    "0 success, 1 the job has failed, 2 invalid command line or manifest, or the output cannot be "
    "written, 3 job or pod not found, 4 the cluster cannot be reached or rejects the request, 5 "
    "not done within --timeout, 130 interrupted."
)
_EXTRA = ("aiohttp", "kopf", "kubernetes")  # installed by the extra `operator`
_MISSING = (
    "this command needs the extra `operator`, without which {name} is not installed: "
    "pip install 'acceleratedjob[operator]'"
)


class Failure(click.ClickException):
    """Sentences to print, and an exit code."""

    def __init__(self, message: str, code: int, others: Sequence[str] = ()) -> None:
        """Create a failure with the exit code of the program."""
        super().__init__(message)
        self.others = others
        self.exit_code = code  # type: ignore[misc]  # click sets it so, too

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentences, with control characters escaped."""
        for sentence in (self.message, *self.others):
            print(*lines(sentence, "  | "), sep="\n", file=file or sys.stderr)


def code_of(error: Exception) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in CODES.items() if isinstance(error, kind))


class Command(click.Command):
    """A command with examples, whose errors become a sentence and an exit code."""

    def __init__(
        self, *arguments: Any, examples: Sequence[tuple[str, str]] = (), **more: Any
    ) -> None:
        """Create a command.

        Args:
            *arguments: those of `click.Command`.
            examples: pairs of the words after the name of the program, and what they do.
            **more: those of `click.Command`.
        """
        super().__init__(*arguments, **more)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and return its exit code."""
        try:
            return super().invoke(ctx)
        except (
            BrokenPipeError
        ):  # the reader (`| head`) has exited: avoid an error at the last flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except tuple(CODES) as error:
            raise Failure(f"{ctx.command_path}: {error}", code_of(error)) from error
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            missing = _MISSING.format(name=error.name)
            raise Failure(f"{ctx.command_path}: {missing}", EXIT_USAGE) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        program = ctx.find_root().info_name
        if self.examples:
            with formatter.section("Examples"):
                for line, what in self.examples:
                    formatter.write(f"  # {what}\n  {program} {line}\n")
        with formatter.section("Exit codes"):
            formatter.write_text(EXIT_CODES)


class Program(click.Group):
    """The program: lists its commands in sections."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """Create a program without commands."""
        super().__init__(*arguments, **more)
        self.sections: dict[str, tuple[click.Command, ...]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands, in the order in which they are listed."""
        self.sections[title] = commands
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names of the commands, in the order in which they were added."""
        return [*self.commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a section for each group of commands."""
        wide = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                rows = [(f"{one.name:{wide}}", one.get_short_help_str(80)) for one in commands]
                formatter.write_dl(rows)
