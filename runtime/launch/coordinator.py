"""The launcher's ends of the control channel.

The launcher of replica 0 hosts the coordinator: there it answers even if a training process holds
the interpreter's lock, and it outlives rank 0. The launchers of all pods attend to their processes:
they look at those that do not answer, write the verdict on a hang for the operator, and agree by
the coordinator on another life when a process has failed.
"""

import functools
import os
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runtime.config.settings import LoopSettings
from runtime.control import asking
from runtime.control.attendant import Attendant
from runtime.control.identity import Identity
from runtime.control.lives import Order, Restarts
from runtime.control.messages import MAX_TEXT, Attend, Begin, Cleared, Fell, Retire
from runtime.control.server import Server
from runtime.control.verdicts.track import Limits
from runtime.launch.hosting import Control, NoControl
from runtime.launch.plan import Pod
from runtime.world import last_words
from runtime.world.contract import COORDINATOR_PORT, LIFE, MEAN_LIFE, NODE_NAME, Job

_LOOPBACK = "127.0.0.1"
_LINGER_SECONDS = 5.0  # that the coordinator waits for the goodbyes of other pods


def control_of(
    pod: Pod, processes: int, env: Mapping[str, str], *, limits: Limits | None = None
) -> Control:
    """Return the control channel of a pod.

    A launcher of another pod than replica 0 finds the coordinator at the progress port; without
    this variable it has no channel.

    Args:
        pod: the training processes of this pod.
        processes: their number.
        env: the environment variables of the launcher.
        limits: how long a rank may stand until the training is said to hang.

    Raises:
        WorldError: the environment of the job has a wrong value.
        ValueError: the progress port is not a whole number.
    """
    job = Job.from_env(env)
    settings = LoopSettings.from_env(env)
    port = settings.progress_port or 0
    own = Attend(
        uid=job.uid if job else "",
        attempt=job.attempt if job else 0,
        replica=pod.node_rank,
        node=env.get(NODE_NAME, "")[:MAX_TEXT],
    )
    if pod.node_rank != 0:
        address = pod.master_addr, port
        return Follower(own, lambda: address, env) if port else NoControl()
    identity = Identity(
        uid=own.uid,
        attempt=own.attempt,
        size=pod.nodes * processes,
        processes=processes,
        name=job.name if job else "",
    )
    host = "" if pod.nodes > 1 or job else _LOOPBACK
    make = functools.partial(
        Server,
        identity,
        host=host,
        port=port,
        limits=limits or _limits(settings),
        restarts=Restarts(
            most=settings.in_place_restarts or 0,
            ends_hangs=settings.stall_deadline_seconds is not None,
        ),
    )
    # The processes of this pod have ended when the coordinator is closed.
    return Coordinator(make, own, env, lingers=_LINGER_SECONDS if pod.nodes > 1 else 0.0)


def _limits(settings: LoopSettings) -> Limits:
    """Return how long a rank may stand; a hang that is to be ended sooner is found sooner."""
    usual, deadline = Limits(), settings.stall_deadline_seconds
    return usual if deadline is None else replace(usual, floor=min(usual.floor, float(deadline)))


class Follower(NoControl):
    """What the launcher of each pod does for the coordinator, and hears from it."""

    def __init__(
        self, own: Attend, find: Callable[[], tuple[str, int]], env: Mapping[str, str]
    ) -> None:
        """Store the arguments.

        Args:
            own: which pod this launcher attends to.
            find: returns the host and the port of the coordinator.
            env: the environment variables of the launcher.
        """
        self._own, self._find, self._env = own, find, env
        self._attendant: Attendant | None = None
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._wake: Callable[[], None] = _nothing

    def start(self) -> Mapping[str, str]:
        """Begin to attend; there are no variables."""
        self._attendant = Attendant(
            self._own,
            self._find,
            look=lambda ranks: asking.reports_below(os.getpid(), ranks),
            on_hang=lambda hang: last_words.write_hang(self._env, hang.as_dict() if hang else None),
            on_order=self._take,
        )
        return {}

    def close(self) -> None:
        """End."""
        if self._attendant is not None:
            self._attendant.close()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call a function when there is an order."""
        self._wake = wake

    def _take(self, order: Order) -> None:
        self._orders.put(order)
        self._wake()

    def orders(self) -> list[Order]:
        """Return the orders that have come since the last call."""
        return [self._orders.get() for _ in range(self._orders.qsize())]

    def fell(self, failure: Fell) -> bool:
        """Tell the coordinator that a process has failed, now or when it is connected."""
        if self._attendant is not None:
            self._attendant.say(failure)
        return self._attendant is not None

    def cleared(self, number: int) -> None:
        """Tell the coordinator that nothing of a life runs in this pod any more."""
        if self._attendant is not None:
            self._attendant.say(Cleared(number=number))

    def retire(self) -> None:
        """Tell the coordinator that this pod begins no other life."""
        if self._attendant is not None:
            self._attendant.say(Retire())


class Coordinator(Follower):
    """The coordinator of a job; it takes no notices, because each rank turns SIGTERM into one."""

    def __init__(
        self, make: Callable[[], Server], own: Attend, env: Mapping[str, str], *, lingers: float
    ) -> None:
        """Store the arguments.

        Args:
            make: starts the coordinator.
            own: which pod this launcher attends to.
            env: the environment variables of the launcher.
            lingers: the seconds to wait at the end for goodbyes.
        """
        super().__init__(own, lambda: (_LOOPBACK, self._port), env)
        self._make = make
        self._lingers, self._port = lingers, 0
        self._server: Server | None = None
        self._began = 0.0

    def start(self) -> Mapping[str, str]:
        """Start the coordinator; return the variables by which rank 0 finds it."""
        self._began = time.monotonic()
        server = self._server = self._make()
        self._port = server.port
        super().start()
        return self._variables(server.identity.life)

    def begin(self, order: Begin) -> Mapping[str, str]:
        """Return the variables by which rank 0 of the next life finds the coordinator."""
        mean = (time.monotonic() - self._began) / order.number
        return {**self._variables(order.life), MEAN_LIFE: str(max(1, round(mean)))}

    def _variables(self, life: str) -> Mapping[str, str]:
        return {COORDINATOR_PORT: str(self._port), LIFE: life}

    def close(self) -> None:
        """End the coordinator when all ranks have said goodbye, or after some seconds."""
        if self._server is not None:
            self._server.close(self._lingers)
        super().close()

    def last_words(self) -> Mapping[str, Any] | None:
        """Return how far the training came."""
        return None if self._server is None else self._server.last_words()


def _nothing() -> None:
    """Do nothing."""
