"""Decides what `python -m runtime.launch` does: which processes it starts, or that torchrun does.

torchrun replaces the launcher if one of its own flags is given, or a range of `--nnodes`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.launch import flags
from runtime.world import contract

THREADS = "OMP_NUM_THREADS"
_LOCAL_RANK = "${local_rank}"  # torchrun's placeholder in the arguments of the script


@dataclass(frozen=True, slots=True)
class Replacement:
    """The program that replaces the launcher.

    Attributes:
        argv: the program and its arguments.
        env: the environment variables of the program.
    """

    argv: list[str]
    env: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The training processes of a pod or machine, which the launcher starts.

    Attributes:
        argv: the program and its arguments, the same for all processes.
        env: the environment variables that all processes get.
        processes: the number of processes, or a word for it: auto, gpu, cpu.
        nodes: the number of pods, >= 1.
        node_rank: the index of this pod, in [0, nodes).
        master_addr: the host name or IP address of rank 0.
        master_port: the port of rank 0; 0 stands for any free port, if there is only one pod.
        standalone: whether the address and the port replace those in `env` for a single process,
            too.

    Raises:
        ValueError: a number is out of its range.
    """

    argv: list[str]
    env: dict[str, str]
    processes: str
    nodes: int
    node_rank: int
    master_addr: str
    master_port: int
    standalone: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check("--nnodes (--num-machines)", self.nodes, 1, None)
        _check("--node-rank (--machine-rank)", self.node_rank, 0, self.nodes - 1)
        _check("--master-port (--main-process-port)", self.master_port, 0, 65535)
        if self.master_port == 0 and self.nodes > 1:
            sentence = f"--standalone, or port 0, is for one pod or machine, got {self.nodes}"
            raise ValueError(sentence)


def plan(arguments: Sequence[str], env: Mapping[str, str]) -> Replacement | Pod:
    """Return what to start.

    A wrong argument ends the program with exit code 2.

    Args:
        arguments: the arguments of the command line.
        env: the environment variables of this process.
    """
    options = flags.read(arguments, env)
    if options.torchrun or ":" in options.nnodes:
        return _torchrun(options, env)
    try:
        return _pod(options, env)
    except ValueError as error:
        flags.parser(env).error(str(error))


def _check(name: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"in [{least}, {most}]"
        sentence = f"{name} must be {allowed}, got {value}"
        raise ValueError(sentence)


def _is_alone(options: argparse.Namespace) -> bool:
    """Whether any free port will do, as in `accelerate launch`."""
    return bool(options.standalone or options.master_port == "0")


def _torchrun(options: argparse.Namespace, env: Mapping[str, str]) -> Replacement:
    """Return the command of torchrun, which by default restarts no process: the operator does."""
    given = vars(options)
    if options.master_port == flags.AUTO:
        given = given | {"master_port": flags.DEFAULT_PORT}
    places = [f"--{place.name}={given[place.dest]}" for place in flags.WORLD_FLAGS]
    kind = ["-m"] if options.module else []
    kind += ["--no-python"] if options.no_python else []
    alone = ["--standalone"] if _is_alone(options) else []
    own = [*places, *alone, *(options.torchrun or []), *kind, options.script, *options.args]
    argv = [sys.executable, "-m", "torch.distributed.run", *own]
    return Replacement(argv, {**env, **options.settings})


def _pod(options: argparse.Namespace, env: Mapping[str, str]) -> Pod:
    alone, nodes = _is_alone(options), _number("nnodes", options.nnodes)
    python = [] if options.no_python else [sys.executable]
    kind = ["-m"] if options.module else []
    return Pod(
        argv=[*python, *kind, options.script, *options.args],
        env={**env, **options.settings},
        processes=options.nproc_per_node,
        nodes=nodes,
        node_rank=_number("node-rank", options.node_rank),
        master_addr=flags.DEFAULT_ADDR if alone else options.master_addr,
        master_port=0 if alone else _port(options.master_port, nodes),
        standalone=alone,
    )


def _port(text: str, nodes: int) -> int:
    """Return the port; two launchers on one machine must not meet at the same one by default."""
    if text == flags.AUTO:
        return 0 if nodes == 1 else flags.DEFAULT_PORT
    return _number("master-port", text)


def _number(flag: str, text: str) -> int:
    if not text.isdecimal():
        sentence = f"--{flag} must be a whole number, got {text!r}"
        raise ValueError(sentence)
    return int(text)


def environments(pod: Pod, *, processes: int, port: int) -> list[dict[str, str]]:
    """Return the environment variables of each process of a pod, by local rank.

    The variables of several processes are those that torchrun would set. The only process of a pod
    keeps those that are set already, which the operator or another launcher has set for it.

    Args:
        pod: the processes to start.
        processes: the number of processes, >= 1.
        port: the port of rank 0; a free one if that of the pod is 0.
    """
    ranks = [_ranks(pod, rank, processes, port) for rank in range(processes)]
    if processes > 1:
        return [{THREADS: "1", **pod.env, **own} for own in ranks]
    chosen = {name: ranks[0][name] for name in (contract.MASTER_ADDR, contract.MASTER_PORT)}
    return [{**ranks[0], **pod.env, **(chosen if pod.standalone else {})}]


def _ranks(pod: Pod, local_rank: int, processes: int, port: int) -> dict[str, str]:
    values = {
        contract.RANK: pod.node_rank * processes + local_rank,
        contract.WORLD_SIZE: pod.nodes * processes,
        contract.LOCAL_RANK: local_rank,
        contract.LOCAL_WORLD_SIZE: processes,
        contract.GROUP_RANK: pod.node_rank,
        contract.GROUP_WORLD_SIZE: pod.nodes,
        contract.MASTER_ADDR: pod.master_addr,
        contract.MASTER_PORT: port,
    }
    return {name: str(value) for name, value in values.items()}


def arguments(pod: Pod, local_rank: int) -> list[str]:
    """Return the program and the arguments of a process, with `${local_rank}` as in torchrun."""
    return [word.replace(_LOCAL_RANK, str(local_rank)) for word in pod.argv]
