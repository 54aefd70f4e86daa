"""Creates the process group that the environment describes, and destroys it."""

import atexit
import importlib
import os
import sys
import threading
import weakref
from datetime import timedelta
from typing import Any

from torch import distributed, nn

from runtime.errors import WorldError
from runtime.world import roll_call
from runtime.world.contract import MASTER_ADDR, MASTER_PORT, World

LEAVING = 10.0  # seconds to wait for the end of the process group when the script ends
# The default arguments in this module hold the process group that exists when it is first imported,
# and DistributedDataParallel imports it. Importing it before the group is created prevents a
# reference that would keep the group alive.
_OF_THE_GROUP = "torch.distributed.nn.functional"
_replicas: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def joined_world() -> World:
    """Return the world that the environment describes.

    If the environment describes a world of one process, but the script has created a process group
    itself, that group is the world.
    """
    world = World.from_env(os.environ)
    if world.size > 1 or not distributed.is_initialized():
        return world
    rank, size = distributed.get_rank(), distributed.get_world_size()
    return World(rank=rank, size=size, local_rank=rank, local_size=size)


def check_backend(backend: str) -> None:
    """Check that torch has a backend.

    Args:
        backend: one backend, or one for each device type, as in `cpu:gloo,cuda:nccl`.

    Raises:
        ValueError: torch does not have the backend.
    """
    if not distributed.is_backend_available(backend):
        known = [one for one in distributed.Backend.backend_list if one != "undefined"]
        usable = filter(distributed.is_backend_available, known)
        sentence = (
            f"torch.distributed has no backend {backend!r} here; available: {', '.join(usable)}"
        )
        raise ValueError(sentence)


def join(world: World, backend: str | None, options: dict[str, Any]) -> None:
    """Create the process group, unless the script has created one already.

    Args:
        world: the rank of this process, the world size, and the address of rank 0.
        backend: the backend of torch.distributed.
        options: further arguments of `init_process_group`.

    Raises:
        WorldError: the processes cannot connect to each other.
    """
    if distributed.is_initialized():
        return
    importlib.import_module(_OF_THE_GROUP)
    options = {"init_method": f"tcp://{_host(world.master_addr)}:{world.master_port}"} | options
    try:
        distributed.init_process_group(backend, rank=world.rank, world_size=world.size, **options)
    except distributed.DistError as error:
        sentence = (
            f"rank {world.rank} of {world.size} cannot join at {MASTER_ADDR}={world.master_addr} "
            f"{MASTER_PORT}={world.master_port}: {error}. {_advice(world, str(error))}"
        )
        raise WorldError(sentence) from error
    roll_call.begin()
    atexit.register(_Leaver().end)


def _advice(world: World, error: str) -> str:
    """Return what to look at when a process cannot join."""
    if world.rank:
        return "Is rank 0 running, and does its name resolve from here?"
    if "EADDRINUSE" in error:
        return "Another process of this machine has the port: end it, or choose another port."
    return "Have all other ranks been started, and can they reach this address?"


def set_timeout(seconds: int) -> None:
    """Set the timeout of collectives.

    Called after the processes have joined: joining may take longer, since pods start at different
    times.
    """
    older = distributed.distributed_c10d._set_pg_timeout  # noqa: SLF001  # older torch has only this
    getattr(distributed, "set_timeout", older)(timedelta(seconds=seconds))


def _host(address: str | None) -> str:
    """Return the address for a URL: an IPv6 address needs brackets."""
    return f"[{address}]" if address and ":" in address else str(address)


def leave() -> None:
    """Destroy the process group if there is one."""
    roll_call.end()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def note_holder(replica: nn.Module) -> None:
    """Note a DistributedDataParallel model, which keeps the process group alive."""
    _replicas.add(replica)


class _Leaver(threading.Thread):
    """A thread that leaves the process group when the script ends.

    It is started early, since Python 3.12 starts no threads at interpreter exit.
    """

    def __init__(self) -> None:
        super().__init__(name="leaver", daemon=True)
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """End the threads of the process group before the interpreter exits.

        A gloo thread that releases the tensor of the last collective after that cannot get the
        interpreter lock, which aborts a process that has finished its work.
        """
        self._over.wait()
        leave()
        for replica in _replicas:
            for holder in ("process_group", "reducer", "logger"):
                vars(replica).pop(holder, None)

    def end(self) -> None:
        """Leave the process group, unless the script has failed: a failure must not be delayed.

        If another process never calls the current collective, the thread does not end; it is
        abandoned after `LEAVING` seconds.
        """
        roll_call.end()
        if getattr(sys, "last_value", None) is None:
            self._over.set()
            self.join(LEAVING)
