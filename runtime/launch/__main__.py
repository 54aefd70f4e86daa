"""`python -m runtime.launch train.py`: starts the training processes of a pod or machine.

With one process, the script replaces the launcher (exec), which does not import torch; torchrun
starts several processes. In the pod of a job all settings are in the environment already.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.launch import flags
from runtime.world import contract


@dataclass(frozen=True, slots=True)
class Start:
    """The program that replaces this process.

    Attributes:
        argv: the program and its arguments.
        env: the environment variables of the program.
    """

    argv: list[str]
    env: dict[str, str]


def plan(arguments: Sequence[str], env: Mapping[str, str]) -> Start:
    """Return the program to start.

    Args:
        arguments: the arguments of the command line.
        env: the environment variables of this process.
    """
    options = flags.read(arguments, env)
    kind = ["-m"] if options.module else []
    is_one = options.nproc_per_node == "1" and options.nnodes.isdecimal()
    if is_one and not options.torchrun:
        python = [] if options.no_python else [sys.executable]
        argv = [*python, *kind, options.script, *options.args]
        return Start(argv, {**_ranks(options), **env, **options.settings})
    kind += ["--no-python"] if options.no_python else []
    argv = [*_torchrun(options), *kind, options.script, *options.args]
    return Start(
        [sys.executable, "-m", "torch.distributed.run", *argv], {**env, **options.settings}
    )


def _torchrun(options: argparse.Namespace) -> list[str]:
    """Return the flags of torchrun, which by default restarts no process: the operator does."""
    places = [f"--{place.name}={getattr(options, place.dest)}" for place in flags.WORLD_FLAGS]
    alone = options.standalone or options.master_port == "0"  # as in `accelerate launch`
    return [*places, *(["--standalone"] if alone else []), *(options.torchrun or [])]


def _ranks(options: argparse.Namespace) -> dict[str, str]:
    """Return the variables that torchrun would set for the only process of a pod."""
    return {
        contract.RANK: options.node_rank,
        contract.WORLD_SIZE: options.nnodes,
        contract.LOCAL_RANK: "0",
        contract.LOCAL_WORLD_SIZE: "1",
        contract.GROUP_RANK: options.node_rank,
        contract.GROUP_WORLD_SIZE: options.nnodes,
        contract.MASTER_ADDR: options.master_addr,
        contract.MASTER_PORT: options.master_port,
    }


def main() -> None:
    """Replace this process by the script, or by torchrun."""
    start = plan(sys.argv[1:], os.environ)
    sys.stdout.flush()
    os.execvpe(start.argv[0], start.argv, start.env)  # noqa: S606  # no shell is needed


if __name__ == "__main__":
    main()
