"""Coming into the world of the environment, and leaving it."""

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

LEAVING = 10.0  # seconds that it may take at the script's end
# Its functions' defaults are the process group that there is when it is first imported, and
# DistributedDataParallel imports it: imported later, it would never let go of the group.
_OF_THE_GROUP = "torch.distributed.nn.functional"
_replicas: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def joined_world() -> World:
    """The environment's; if a script has joined by itself, without one, that which it joined."""
    world = World.from_env(os.environ)
    if world.size > 1 or not distributed.is_initialized():
        return world
    rank, size = distributed.get_rank(), distributed.get_world_size()
    return World(rank=rank, size=size, local_rank=rank, local_size=size)


def check_backend(backend: str) -> None:
    """See that torch has a backend, or all that are named for kinds of devices.

    Raises:
        ValueError: it does not.
    """
    if not distributed.is_backend_available(backend):
        known = [one for one in distributed.Backend.backend_list if one != "undefined"]
        usable = filter(distributed.is_backend_available, known)
        sentence = f"torch.distributed has no backend {backend!r} here, but {', '.join(usable)}"
        raise ValueError(sentence)


def join(world: World, backend: str | None, options: dict[str, Any]) -> None:
    """Make the process group, unless the script has one already."""
    if distributed.is_initialized():
        return
    importlib.import_module(_OF_THE_GROUP)
    options = {"init_method": f"tcp://{_host(world.master_addr)}:{world.master_port}"} | options
    try:
        distributed.init_process_group(backend, rank=world.rank, world_size=world.size, **options)
    except distributed.DistError as error:
        sentence = (
            f"rank {world.rank} of {world.size} cannot join at {MASTER_ADDR}={world.master_addr} "
            f"{MASTER_PORT}={world.master_port}: {error}. Is rank 0 running, and does its name "
            f"resolve from here?"
        )
        raise WorldError(sentence) from error
    roll_call.begin()
    atexit.register(_Leaver().end)


def set_timeout(seconds: int) -> None:
    """Of collectives; processes may take longer to join, for their pods do."""
    older = distributed.distributed_c10d._set_pg_timeout  # noqa: SLF001  # torch's only way before
    getattr(distributed, "set_timeout", older)(timedelta(seconds=seconds))


def _host(address: str | None) -> str:
    """An IPv6 address stands in brackets in a URL."""
    return f"[{address}]" if address and ":" in address else str(address)


def leave() -> None:
    """Destroy the process group if there is one."""
    roll_call.end()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def note_holder(replica: nn.Module) -> None:
    """Note a model in DistributedDataParallel, which holds the process group until it is gone."""
    _replicas.add(replica)


class _Leaver(threading.Thread):
    """Leaves when the script is over; by then Python 3.12 starts no thread any more."""

    def __init__(self) -> None:
        super().__init__(name="leaver", daemon=True)
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Have the group's threads end while the interpreter is still there.

        One of gloo's that releases the last collective's tensor later than that asks for the
        interpreter in vain, which aborts a process that has done all its work.
        """
        self._over.wait()
        leave()
        for replica in _replicas:
            for holder in ("process_group", "reducer", "logger"):
                vars(replica).pop(holder, None)

    def end(self) -> None:
        """Leave, unless the script has failed: that must be seen at once.

        A thread in a collective that the others never come to does not end, and is left behind.
        """
        roll_call.end()
        if getattr(sys, "last_value", None) is None:
            self._over.set()
            self.join(LEAVING)
