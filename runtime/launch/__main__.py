"""`python -m runtime.launch train.py`: start a pod's training processes.

One process: the script takes this process' place at once, and torch is not even imported. Several:
torchrun starts them. In a pod everything it needs to know is in the environment already.
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
    """The program that takes this one's place."""

    argv: list[str]
    env: dict[str, str]


def plan(arguments: Sequence[str], env: Mapping[str, str]) -> Start:
    """What to start.

    Args:
        arguments: of the command line.
        env: the environment.
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
    """Flags for torchrun: unless asked, it restarts nothing, as the operator does."""
    places = [f"--{place.name}={getattr(options, place.dest)}" for place in flags.PLACES]
    alone = options.standalone or options.master_port == "0"  # as `accelerate launch` understands 0
    return [*places, *(["--standalone"] if alone else []), *(options.torchrun or [])]


def _ranks(options: argparse.Namespace) -> dict[str, str]:
    """What torchrun would set for a pod's only process."""
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
    """Take the place of this process."""
    start = plan(sys.argv[1:], os.environ)
    sys.stdout.flush()
    os.execvpe(start.argv[0], start.argv, start.env)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
