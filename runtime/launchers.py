"""Starts a training function in several processes, from a notebook or for a test."""

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

_NODE = ("NPROC", "NODE_RANK")  # the number of processes per machine; the index of this machine
_RENDEZVOUS_FILE = "ACCELERATE_DEBUG_RDV_FILE"  # the path of the store of debug_launcher


class PrepareForLaunch:
    """The function that a started process runs: sets the rank, then calls the training function.

    Attributes:
        launcher: the training function.
        distributed_type: the kind of world.
        debug: whether `debug_launcher` has started the process.
    """

    def __init__(
        self, launcher: Callable[..., Any], distributed_type: str = "NO", debug: bool = False
    ) -> None:
        """Store the arguments.

        Args:
            launcher: the training function.
            distributed_type: the name of the kind of world.
            debug: whether processes create the process group here, with a file as its store.
        """
        self.launcher = launcher
        self.distributed_type = DistributedType(distributed_type)
        self.debug = debug

    def __call__(self, index: int, *args: Any) -> None:
        """Run the training function.

        Args:
            index: the local rank of the process.
            *args: the arguments of the function.
        """
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()  # noqa: SLF001  # the forked state is that of the parent process
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
    """Run a function in several processes on the CPUs of this machine; for tests.

    Args:
        function: the training function.
        args: the arguments of the function.
        num_processes: the number of processes.

    Raises:
        ProcessRaisedException: a process has failed; the others are terminated.
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

    The processes are forked, so the notebook must not have used an accelerator before. With one
    process in total, the function is called in the process of the notebook.

    Args:
        function: the training function, which must create its own Accelerator.
        args: the arguments of the function.
        num_processes: the number of processes on this machine.
        mixed_precision: `no`, `fp16`, `bf16` or `fp8`.
        use_port: the port of the first machine at which processes meet.
        master_addr: the host name or IP address of the first machine.
        node_rank: the index of this machine, in [0, num_nodes).
        num_nodes: the number of machines.
        rdzv_backend: the backend of the rendezvous, as for torchrun.
        rdzv_endpoint: the address of the rendezvous, as `HOST:PORT`; by default `master_addr` and
            `use_port`.
        rdzv_conf: further settings of the rendezvous.
        rdzv_id: the name of this run in the rendezvous.
        max_restarts: the number of restarts of all processes after a failure.
        monitor_interval: the time between two checks of the processes, in seconds.
        log_line_prefix_template: the prefix of each line that a process prints.

    Raises:
        ValueError: an argument is wrong, or the notebook has created an Accelerator.
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
