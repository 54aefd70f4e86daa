"""How the processes of a job find their coordinator, and who hosts it.

The launcher of replica 0 hosts it and names it in the environment; without a launcher rank 0 does.
Rank 0 publishes the address through the store of the process group, where the control thread of
each rank looks for it: no collective is needed.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import distributed

from runtime.config.settings import LoopSettings
from runtime.control.agent import Address, Agent
from runtime.control.beat import Beat
from runtime.control.identity import Identity
from runtime.control.place import Place
from runtime.control.server import Server
from runtime.control.verdicts.summary import Summary
from runtime.loop.control import Alone, Control
from runtime.loop.flight import report
from runtime.world import last_words
from runtime.world.contract import COORDINATOR_PORT, LIFE, MASTER_ADDR, Job

_KEY = "acceleratedjob/coordinator"
_LOOPBACK = "127.0.0.1"
_LINGER_SECONDS = 10.0  # that a coordinator in rank 0 waits for the goodbyes of the others


def joined(rank: int, size: int, beat: Callable[[Place], Beat]) -> Control:
    """Return the control of this process.

    Args:
        rank: the rank.
        size: the world size.
        beat: returns what is to be said of this rank.

    Raises:
        WorldError: the environment of the job has a wrong value.
    """
    env = os.environ
    job = Job.from_env(env)
    if size == 1 and job is None:
        return Alone()
    own = Identity(
        uid=job.uid if job else "",
        attempt=job.attempt if job else 0,
        size=size,
        processes=job.processes_per_replica if job else 1,
    )
    server, found = _coordinator(own, env) if rank == 0 else (None, None)
    return Joined(own, rank, beat, server, found)


def _coordinator(own: Identity, env: Mapping[str, str]) -> tuple[Server | None, Address]:
    """Return the coordinator that rank 0 hosts, if no launcher does, and its address."""
    if env.get(COORDINATOR_PORT) and env.get(LIFE):
        return None, Address(_LOOPBACK, int(env[COORDINATOR_PORT]), env[LIFE])
    is_local = env.get(MASTER_ADDR, _LOOPBACK) in (_LOOPBACK, "localhost")
    port = LoopSettings.from_env(env).progress_port or 0
    server = Server(own, host=_LOOPBACK if is_local else "", port=port)
    return server, Address(_LOOPBACK, server.port, own.life)


class Joined(Agent):
    """The control of one of several processes; on rank 0 perhaps with the coordinator."""

    def __init__(
        self,
        own: Identity,
        rank: int,
        beat: Callable[[Place], Beat],
        server: Server | None,
        found: Address | None,
    ) -> None:
        """Start the thread that speaks to the coordinator.

        Args:
            own: which job and attempt this is.
            rank: the rank.
            beat: returns what is to be said of this rank.
            server: the coordinator, if this process hosts it.
            found: the address of the coordinator, on rank 0.
        """
        self._server = server
        store = distributed.distributed_c10d._get_default_store() if own.size > 1 else None  # noqa: SLF001  # no public way
        if found is not None and store is not None:
            store.set(_KEY, json.dumps([found.port, found.life]))
        host = os.environ.get(MASTER_ADDR, _LOOPBACK)
        find = _Lookup(store, host) if found is None else lambda: found
        super().__init__(find, beat, report, own=own, rank=rank)

    def close(self) -> None:
        """Say goodbye; the coordinator stays until all have, for a bounded time."""
        super().close()
        if self._server is not None:
            self._server.close(_LINGER_SECONDS)
            # The exit code is not known: a failure must not replace the end of the log.
            progress = self._server.last_words() if self._server.is_complete else None
            if progress is not None:
                last_words.write_progress(os.environ, progress)

    def on_hang(self, hang: Summary | None) -> None:
        """Write the verdict for the operator, where no launcher does: as PID 1 of a container."""
        last_words.write_hang_as_init(os.environ, hang.as_dict() if hang else None)


@dataclass(slots=True)
class _Lookup:
    """Looks for the coordinator's address in the store; the host is resolved only once.

    Attributes:
        store: the store of the process group.
        host: the host name of rank 0.
        found: the address, once it is known.
    """

    store: Any
    host: str
    found: Address | None = None

    def __call__(self) -> Address | None:
        """Return the address; None if it is not known yet."""
        if self.found is None and self.store.check([_KEY]):  # `get` alone would block the store
            port, life = json.loads(self.store.get(_KEY))
            self.found = Address(_resolved(self.host), port, life)
        return self.found


def _resolved(host: str) -> str:
    """Return an IP address of a host: the name of a terminating pod may stop resolving."""
    with contextlib.suppress(OSError):
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    return host
