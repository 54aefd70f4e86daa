"""The command line of `acceleratedjob`.

Exit codes: 0 success, 1 the job has failed, or the operator did not shut down in time, 2 the
manifest or the command line is invalid, 3 the job does not exist, or the operator lost its lease,
4 the cluster cannot be reached (perhaps because of the kubeconfig) or rejects the request,
130 interrupted.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acceleratedjob.commands.flags import add_commands
from acceleratedjob.commands.loading import load
from acceleratedjob.commands.render import render
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.exits import EXIT_INTERRUPTED, EXIT_USAGE
from acceleratedjob.manager.flags import Options, add_flags
from acceleratedjob.terminal import lines

_EXTRA = ("aiohttp", "kopf", "kubernetes")  # installed by the extra `operator`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except InvalidSpec as error:
        print(*lines(f"{options.manifest}: {error}", "  | "), sep="\n", file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(
            f"{parser().prog}: this command needs the extra `operator`, without which "
            f"{error.name} is not installed: pip install 'acceleratedjob[operator]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
    except BrokenPipeError:  # the reader (`| head`) has exited: avoid an error at the final flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and flags."""
    top = argparse.ArgumentParser(
        prog="acceleratedjob",
        description="Distributed PyTorch training on Kubernetes, from one manifest.",
        epilog="`run` runs a manifest on this machine, `kubectl apply -f` on a cluster; there, "
        "`why JOB` explains why a job waits or has failed.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_render(commands)
    add_commands(commands)
    _add_operator(commands)
    return top


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a job on this machine, with its pods as processes",
        description="Run a job on this machine, without Kubernetes, images or root. Its pods are "
        "processes, which are started and restarted as by the operator; only the training "
        "container runs. The exit code is 0 if the job succeeds, and 1 if it fails.",
    )
    run.add_argument("manifest", type=Path, help="path to a YAML file with an AcceleratedJob")
    run.add_argument(
        "--workdir",
        type=Path,
        help="working directory of the processes (default: the directory of the manifest)",
    )
    run.set_defaults(run=_run)


def _add_render(commands: Any) -> None:
    render = commands.add_parser(
        "render",
        help="print the objects that are created for a job",
        description="Print the objects that the operator would create for the first attempt of a "
        "job, as YAML.",
    )
    render.add_argument("manifest", type=Path, help="path to a YAML file with an AcceleratedJob")
    render.set_defaults(run=_render)


def _add_operator(commands: Any) -> None:
    operator = commands.add_parser(
        "operator",
        help="run the operator",
        description="Run the operator. In a pod it uses the service account of the pod, elsewhere "
        "the current context of the kubeconfig.",
    )
    add_flags(operator)
    operator.set_defaults(run=_operator)


def _render(options: argparse.Namespace) -> int:
    render(options.manifest, sys.stdout)
    return 0


def _run(options: argparse.Namespace) -> int:
    from acceleratedjob.commands.run import run_job  # noqa: PLC0415  # slow to import

    manifest = load(options.manifest)
    if options.workdir is not None and not options.workdir.is_dir():
        print(
            f"acceleratedjob run: --workdir must be a folder, got {options.workdir}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    folder = options.manifest.parent
    return asyncio.run(run_job(manifest, workdir=options.workdir or folder, folder=folder))


def _operator(given: argparse.Namespace) -> int:
    try:
        options = Options.of(given)
    except ValueError as error:
        print(f"acceleratedjob operator: {error}", file=sys.stderr)
        return EXIT_USAGE
    # The kernel ignores a signal to the first process of a container without a handler, and the
    # imports take a second. The event loop replaces this handler. An exception, as sys.exit raises,
    # would be ignored inside a destructor, and the signal would be lost.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from acceleratedjob.manager import manager  # noqa: PLC0415  # imports kopf

    return manager.main(options)
