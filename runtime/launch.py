"""`python -m runtime.launch train.py`: start a pod's training processes.

One process: the script takes this process' place at once, and torch is not even imported. Several:
torchrun starts them. In a pod everything it needs to know is in the environment already.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime import world

# torchrun reads a flag's default from PET_<FLAG>; the operator sets these five.
NNODES = "PET_NNODES"
NPROC_PER_NODE = "PET_NPROC_PER_NODE"
NODE_RANK = "PET_NODE_RANK"
PET_MASTER_ADDR = "PET_MASTER_ADDR"
PET_MASTER_PORT = "PET_MASTER_PORT"

DEFAULT_ADDR = "127.0.0.1"
DEFAULT_PORT = "29500"


@dataclass(frozen=True, slots=True)
class Start:
    """The program that takes this one's place."""

    argv: list[str]
    env: dict[str, str]


def parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    """The flags, with defaults from the environment."""
    made = argparse.ArgumentParser(
        prog="python -m runtime.launch",
        description="Start the training processes of this pod or machine. In an AcceleratedJob's "
        "pod no flag is needed: `python -m runtime.launch train.py`.",
        epilog="Each default is taken from the PET_ variable in brackets, which the operator sets "
        "and torchrun reads as well.",
    )
    flags = (
        ("--nproc-per-node", NPROC_PER_NODE, "1", "processes here, or auto, gpu, cpu"),
        ("--nnodes", NNODES, "1", "pods or machines in all"),
        ("--node-rank", NODE_RANK, "0", "which of them this is, from 0"),
        ("--master-addr", PET_MASTER_ADDR, DEFAULT_ADDR, "where the first of them can be reached"),
        ("--master-port", PET_MASTER_PORT, DEFAULT_PORT, "and at which port"),
    )
    for flag, name, default, text in flags:
        value = env.get(name, default)
        made.add_argument(flag, default=value, help=f"{text} (default: {default}) [{name}]")
    made.add_argument("-m", "--module", action="store_true", help="the script is a module's name")
    made.add_argument("script", help="the training script")
    made.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    return made


def plan(arguments: Sequence[str], env: Mapping[str, str]) -> Start:
    """What to start.

    Args:
        arguments: of the command line.
        env: the environment.
    """
    options = parser(env).parse_args(arguments)
    script = [*(["-m"] if options.module else []), options.script, *options.args]
    if options.nproc_per_node != "1":
        return Start(
            [sys.executable, "-m", "torch.distributed.run", *_torchrun(options), *script], dict(env)
        )
    return Start([sys.executable, *script], {**_ranks(options), **env})


def _torchrun(options: argparse.Namespace) -> list[str]:
    """Flags for torchrun: the gang is restarted by the operator, never by a pod alone."""
    return [
        f"--nproc-per-node={options.nproc_per_node}",
        f"--nnodes={options.nnodes}",
        f"--node-rank={options.node_rank}",
        f"--master-addr={options.master_addr}",
        f"--master-port={options.master_port}",
        "--max-restarts=0",
    ]


def _ranks(options: argparse.Namespace) -> dict[str, str]:
    """What torchrun would set for a pod's only process."""
    return {
        world.RANK: options.node_rank,
        world.WORLD_SIZE: options.nnodes,
        world.LOCAL_RANK: "0",
        world.LOCAL_WORLD_SIZE: "1",
        world.GROUP_RANK: options.node_rank,
        world.GROUP_WORLD_SIZE: options.nnodes,
        world.MASTER_ADDR: options.master_addr,
        world.MASTER_PORT: options.master_port,
    }


def main() -> None:
    """Take the place of this process."""
    start = plan(sys.argv[1:], os.environ)
    sys.stdout.flush()
    os.execve(start.argv[0], start.argv, start.env)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
