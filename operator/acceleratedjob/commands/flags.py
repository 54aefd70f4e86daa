"""The flags of the commands that ask a cluster. Imports nothing heavy: all commands read them."""

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Any

EXIT_CODES = (
    "Exit codes: 0 all is well, 1 the job has failed, 2 the command is wrong, 3 there is no such "
    "job or pod, 4 the cluster cannot be reached (its kubeconfig may be why) or refuses, "
    "130 interrupted."
)


def add_commands(commands: Any) -> None:
    """`why`, `status` and `logs`."""
    _add_why(commands)
    _add_status(commands)
    _add_logs(commands)


def _add(commands: Any, name: str, text: str, description: str) -> Any:
    made = commands.add_parser(
        name, help=text, description=description, epilog=EXIT_CODES, allow_abbrev=False
    )
    made.add_argument(
        "-n", "--namespace", metavar="NS", help="(default: the context's, else default)"
    )
    made.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG"),
        metavar="FILE",
        help="file to find the cluster in (default: $KUBECONFIG, then ~/.kube/config)",
    )
    made.add_argument("--context", metavar="NAME", help="of the kubeconfig (default: its current)")
    made.set_defaults(run=_asking(name))
    return made


def _asking(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from acceleratedjob.commands import main  # noqa: PLC0415  # only these commands pay

        return asyncio.run(main.run(name, options))

    return run


def _add_why(commands: Any) -> None:
    why = _add(
        commands,
        "why",
        "say why a job waits, or why it has failed",
        "Say on one screen where a job stands, what its pods wait for, what has failed, what was "
        "decided, and what to do next.",
    )
    why.add_argument("job", metavar="JOB", help="name of an AcceleratedJob")


def _add_status(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        "list jobs, or follow them",
        "List the jobs of a namespace, or one. With --watch a line is added for each change; one "
        "job is followed to its end, and the exit code is its.",
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="only this one")
    status.add_argument(
        "-A", "--all-namespaces", action="store_true", help="jobs of all namespaces"
    )
    status.add_argument("-w", "--watch", action="store_true", help="go on, and show each change")


def _add_logs(commands: Any) -> None:
    logs = _add(
        commands,
        "logs",
        "show what a job's training containers write",
        "Show the logs of the current attempt's training containers, the lines of several with "
        "their ranks. Where a replica has several processes, its log is all of theirs.",
    )
    logs.add_argument("job", metavar="JOB", help="name of an AcceleratedJob")
    which = logs.add_mutually_exclusive_group()
    which.add_argument("--rank", type=int, metavar="N", help="only the replica that has this rank")
    which.add_argument("--replica", type=int, metavar="N", help="only this replica")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on until the attempt's containers end"
    )
    logs.add_argument(
        "--previous-attempt",
        action="store_true",
        help="of the attempt before, while its pods are still there",
    )
    logs.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="a colour for each rank; auto: on a terminal, unless $NO_COLOR is set "
        "(default: %(default)s)",
    )
