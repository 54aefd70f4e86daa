"""Starting a training function in several processes, from a notebook or for a test."""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.multiprocessing.spawn import start_processes

from runtime.config.enums import DistributedType, PrecisionType
from runtime.config.parsing import patch_environment, whole_number
from runtime.world import contract
from runtime.world.gradient_state import GradientState
from runtime.world.state import AcceleratorState, PartialState

__all__ = ["PrepareForLaunch", "debug_launcher", "notebook_launcher"]

_NODE = ("NPROC", "NODE_RANK")  # processes of each machine, and which machine this is
_RENDEZVOUS_FILE = "ACCELERATE_DEBUG_RDV_FILE"  # where the processes of a debug launch meet


class PrepareForLaunch:
    """What a started process does first: it finds out which one it is."""

    def __init__(
        self, launcher: Callable[..., Any], distributed_type: str = "NO", debug: bool = False
    ) -> None:
        """Args: launcher: the training function; debug: the processes meet in a file."""
        self.launcher = launcher
        self.distributed_type = DistributedType(distributed_type)
        self.debug = debug

    def __call__(self, index: int, *args: Any) -> None:
        """Args: index: of the process on this machine; args: for the function."""
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()  # noqa: SLF001  # what was forked along is another process'
        size, node = (whole_number(name, os.environ.get(name, "0")) for name in _NODE)
        rank = size * node + index
        os.environ |= {
            contract.RANK: str(rank),
            contract.LOCAL_RANK: str(index),
            "FORK_LAUNCHED": "1",
        }
        if self.debug:
            size = int(os.environ[contract.WORLD_SIZE])
            store = torch.distributed.FileStore(  # type: ignore[attr-defined]  # torch exports it
                os.environ[_RENDEZVOUS_FILE], size
            )
            torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
        self.launcher(*args)


def debug_launcher(
    function: Callable[..., Any], args: Sequence[Any] = (), num_processes: int = 2
) -> None:
    """Run a function in several processes on this machine's CPU; for tests, not for training.

    Args:
        function: the training function.
        args: for it.
        num_processes: how many.

    Raises:
        ProcessRaisedException: a process failed; the others are ended.
    """
    with (
        tempfile.NamedTemporaryFile() as meeting,
        patch_environment(
            world_size=num_processes,
            local_world_size=num_processes,
            master_addr="127.0.0.1",
            master_port="29500",
            accelerate_mixed_precision="no",
            accelerate_debug_rdv_file=meeting.name,
            accelerate_use_cpu="yes",
            gloo_socket_ifname="lo",
        ),
    ):
        start_processes(  # type: ignore[no-untyped-call]  # torch has not typed it
            PrepareForLaunch(function, debug=True),
            args=tuple(args),
            nprocs=num_processes,
            start_method="fork",
        )


def notebook_launcher(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    num_processes: int | None = None,
    mixed_precision: str = "no",
    use_port: str | int = "29500",
    master_addr: str = "127.0.0.1",
    node_rank: int = 0,
    num_nodes: int = 1,
    rdzv_backend: str = "static",
    rdzv_endpoint: str = "",
    rdzv_conf: dict[str, Any] | None = None,
    rdzv_id: str = "none",
    max_restarts: int = 0,
    monitor_interval: float = 0.1,
    log_line_prefix_template: str | None = None,
) -> None:
    """Run a training function in several processes of this machine, from a notebook.

    The processes are forked: no accelerator may have been touched before. One process is this
    one: the function is simply called.

    Args:
        function: the training function; makes its own Accelerator.
        args: for it.
        num_processes: on this machine.
        mixed_precision: `no`, `fp16` or `bf16`.
        use_port: where the processes meet.
        master_addr: at the first machine.
        node_rank: this machine, of them.
        num_nodes: machines.
        rdzv_backend: as for torchrun, as are all that follow.
        rdzv_endpoint: default: `master_addr` and `use_port`.
        rdzv_conf: more for the rendezvous.
        rdzv_id: of this run.
        max_restarts: of all processes.
        monitor_interval: seconds between two looks at the processes.
        log_line_prefix_template: in front of what each process says.

    Raises:
        ValueError: an argument is wrong, or there is an Accelerator already.
    """
    precision = PrecisionType(mixed_precision.lower())
    if num_processes is None:
        sentence = "You have to specify the number of devices to use: add `num_processes=...`."
        raise ValueError(sentence)
    if node_rank >= num_nodes:
        sentence = "The node_rank must be less than the number of nodes."
        raise ValueError(sentence)
    with patch_environment(accelerate_mixed_precision=precision.value):
        if num_processes * num_nodes == 1:
            function(*args)
            return
        if AcceleratorState.is_made():
            sentence = (
                "To launch a multi-device training from your notebook, the `Accelerator` should "
                "only be initialized inside your training function. Restart your notebook."
            )
            raise ValueError(sentence)
        static = {"rank": node_rank} if rdzv_backend == "static" else {}
        config = LaunchConfig(
            min_nodes=num_nodes,
            max_nodes=num_nodes,
            nproc_per_node=num_processes,
            run_id=rdzv_id,
            rdzv_endpoint=rdzv_endpoint or f"{master_addr}:{use_port}",
            rdzv_backend=rdzv_backend,
            rdzv_configs={**(rdzv_conf or {}), **static},
            max_restarts=max_restarts,
            monitor_interval=monitor_interval,
            start_method="fork",
            log_line_prefix_template=log_line_prefix_template,
        )
        with patch_environment(fork_launched="1"):
            elastic_launch(config, function)(*args)
