"""The flags of the commands about jobs of a cluster.

Imports no client library: every command adds them.
"""

import argparse
import asyncio
import math
import os
from collections.abc import Callable
from typing import Any

EXIT_CODES = (
    "Exit codes: 0 success, 1 the job has failed, 2 invalid command line, 3 job or pod not found, "
    "4 the cluster cannot be reached or rejects the request, 5 not done within --timeout, "
    "130 interrupted."
)


def add_commands(commands: Any) -> None:
    """Add the commands."""
    for add in (_add_why, _add_status, _add_logs, _add_stop, _add_resume, _add_dump):
        add(commands)
    _add_checkpoints(commands)


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


def _add_job(command: Any) -> None:
    command.add_argument("job", metavar="JOB", help="name of the AcceleratedJob")


def _add_timeout(command: Any) -> None:
    command.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long to wait (default: as long as it takes)",
    )


def _seconds(text: str) -> float:
    """Read a number of seconds.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


def _add_why(commands: Any) -> None:
    why = _add(
        commands,
        "why",
        "explain why a job waits or has failed",
        "Explain the state of a job: its phase, what its pods wait for, what has failed, what the "
        "operator decided, and what you can do.",
    )
    _add_job(why)


def _add_status(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        "list jobs",
        "List the jobs of a namespace, or a single job. With --watch, a terminal shows a "
        "line with a bar for each job; otherwise, a line is printed for each change. A single job "
        "is followed until it finishes, and decides the exit code.",
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="list only this job")
    status.add_argument(
        "-A", "--all-namespaces", action="store_true", help="list the jobs of all namespaces"
    )
    status.add_argument("-w", "--watch", action="store_true", help="follow the changes")


def _add_logs(commands: Any) -> None:
    logs = _add(
        commands,
        "logs",
        "print the logs of a job",
        "Print the logs of the training containers of the current attempt. Lines are prefixed with "
        "the rank; the log of a replica contains the output of all its processes.",
    )
    _add_job(logs)
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


def _add_stop(commands: Any) -> None:
    stop = _add(
        commands,
        "stop",
        "stop a job so that it can go on later",
        "Suspend a job, wait until its pods have ended, and say which checkpoint is kept. Nothing "
        "is deleted: `resume` lets the job go on. A job that is stopped already stays so.",
    )
    _add_job(stop)
    _add_timeout(stop)
    stop.add_argument(
        "--force",
        action="store_true",
        help="stop it even if it loses its training, because it has no spec.checkpoint",
    )


def _add_resume(commands: Any) -> None:
    resume = _add(
        commands,
        "resume",
        "let a stopped job go on",
        "Let a suspended job go on from its newest checkpoint.",
    )
    _add_job(resume)
    resume.add_argument("-w", "--wait", action="store_true", help="wait until a step is done")
    _add_timeout(resume)


def _add_dump(commands: Any) -> None:
    dump = _add(
        commands,
        "dump",
        "print where all ranks of a job are",
        "Print the stacks of all ranks, which keep running: `python -m runtime.dump` is run in "
        "each pod, as by kubectl exec, which needs the permissions to list pods and to get and "
        "create pods/exec. Ranks of `acceleratedjob run`: `python -m runtime.dump --job JOB`.",
    )
    _add_job(dump)


def _add_checkpoints(commands: Any) -> None:
    checkpoints = _add(
        commands,
        "checkpoints",
        "list the checkpoints of a job",
        "List the checkpoints of a job: `python -m runtime.checkpoints` is run in a pod, as by "
        "kubectl exec. If no pod runs, what the status says is printed. With --folder, list those "
        "of a folder, such as one of `acceleratedjob run`, or of a URL; this needs the runtime.",
    )
    which = checkpoints.add_mutually_exclusive_group(required=True)
    which.add_argument("job", metavar="JOB", nargs="?", help="name of the AcceleratedJob")
    which.add_argument("--folder", metavar="DIR", help="a folder of this machine, or a URL")
    checkpoints.set_defaults(run=_checkpoints)


def _checkpoints(options: argparse.Namespace) -> int:
    if options.folder is None:
        return _asking("checkpoints")(options)
    from acceleratedjob.commands import checkpoint_list  # noqa: PLC0415  # others do not need it

    return asyncio.run(checkpoint_list.list_folder(options.folder))
