"""The flags of `why`, `status` and `logs`. Imports no client library: every command adds them."""

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Any

EXIT_CODES = (
    "Exit codes: 0 success, 1 the job has failed, 2 invalid command line, 3 job or pod not found, "
    "4 the cluster cannot be reached or rejects the request, 130 interrupted."
)


def add_commands(commands: Any) -> None:
    """Add the commands `why`, `status` and `logs`."""
    _add_why(commands)
    _add_status(commands)
    _add_logs(commands)


def _add(commands: Any, name: str, text: str, description: str) -> Any:
    made = commands.add_parser(
        name, help=text, description=description, epilog=EXIT_CODES, allow_abbrev=False
    )
    made.add_argument(
        "-n", "--namespace", metavar="NS", help="namespace (default: that of the context)"
    )
    made.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG"),
        metavar="FILE",
        help="path to the kubeconfig (default: $KUBECONFIG, then ~/.kube/config)",
    )
    made.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    made.set_defaults(run=_asking(name))
    return made


def _asking(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from acceleratedjob.commands import main  # noqa: PLC0415  # slow to import

        return asyncio.run(main.run(name, options))

    return run


def _add_why(commands: Any) -> None:
    why = _add(
        commands,
        "why",
        "explain why a job waits or has failed",
        "Explain the state of a job: its phase, what its pods wait for, what has failed, what the "
        "operator decided, and what you can do.",
    )
    why.add_argument("job", metavar="JOB", help="name of the AcceleratedJob")


def _add_status(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        "list jobs",
        "List the jobs of a namespace, or a single job. With --watch, a line is printed for each "
        "change; a single job is followed until it finishes, and decides the exit code.",
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="list only this job")
    status.add_argument(
        "-A", "--all-namespaces", action="store_true", help="list the jobs of all namespaces"
    )
    status.add_argument("-w", "--watch", action="store_true", help="print each change")


def _add_logs(commands: Any) -> None:
    logs = _add(
        commands,
        "logs",
        "print the logs of a job",
        "Print the logs of the training containers of the current attempt. Lines are prefixed with "
        "the rank; the log of a replica contains the output of all its processes.",
    )
    logs.add_argument("job", metavar="JOB", help="name of the AcceleratedJob")
    which = logs.add_mutually_exclusive_group()
    which.add_argument(
        "--rank", type=int, metavar="N", help="print only the replica that has this rank"
    )
    which.add_argument("--replica", type=int, metavar="N", help="print only this replica")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="print new lines until the containers end"
    )
    logs.add_argument(
        "--previous-attempt",
        action="store_true",
        help="print the logs of the previous attempt, if its pods still exist",
    )
    logs.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="color the lines by rank; auto: on a terminal, unless $NO_COLOR is set "
        "(default: %(default)s)",
    )
