"""The launcher's ends of the control channel.

The launcher of replica 0 hosts the coordinator: there it answers even if a training process holds
the interpreter's lock, and it outlives rank 0. The launchers of all pods attend to their processes:
they look at those that do not answer, and write the verdict on a hang for the operator.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from runtime.config.settings import LoopSettings
from runtime.control import asking
from runtime.control.attendant import Attendant
from runtime.control.identity import Identity
from runtime.control.server import Server
from runtime.control.verdicts.track import Limits
from runtime.control.wire import MAX_TEXT, Attend
from runtime.launch.hosting import Control, NoControl
from runtime.launch.plan import Pod
from runtime.world import last_words
from runtime.world.contract import COORDINATOR_PORT, LIFE, NODE_NAME, Job

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
    port = LoopSettings.from_env(env).progress_port or 0
    own = Attend(
        uid=job.uid if job else "",
        attempt=job.attempt if job else 0,
        replica=pod.node_rank,
        node=env.get(NODE_NAME, "")[:MAX_TEXT],
    )
    if pod.node_rank != 0:
        return Follower(own, pod.master_addr, port, env) if port else NoControl()
    identity = Identity(
        uid=own.uid,
        attempt=own.attempt,
        size=pod.nodes * processes,
        processes=processes,
    )
    host = "" if pod.nodes > 1 or job else _LOOPBACK
    make = functools.partial(
        Server, identity, host=host, port=port, limits=limits, name=job.name if job else ""
    )
    # The processes of this pod have ended when the coordinator is closed.
    return Coordinator(make, own, env, lingers=_LINGER_SECONDS if pod.nodes > 1 else 0.0)


class Coordinator(NoControl):
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
        self._make, self._own, self._env = make, own, env
        self._lingers = lingers
        self._server: Server | None = None
        self._attendant: Attendant | None = None

    def start(self) -> Mapping[str, str]:
        """Start the coordinator; return the variables by which rank 0 finds it."""
        server = self._server = self._make()
        self._attendant = _attendant(self._own, _LOOPBACK, server.port, self._env)
        return {COORDINATOR_PORT: str(server.port), LIFE: server.identity.life}

    def close(self) -> None:
        """End the coordinator when all ranks have said goodbye, or after some seconds."""
        if self._server is not None:
            self._server.close(self._lingers)
        if self._attendant is not None:
            self._attendant.close()

    def last_words(self) -> Mapping[str, Any] | None:
        """Return how far the training came."""
        return None if self._server is None else self._server.last_words()


class Follower(NoControl):
    """What the launcher of another pod does for the coordinator."""

    def __init__(self, own: Attend, host: str, port: int, env: Mapping[str, str]) -> None:
        """Store the arguments.

        Args:
            own: which pod this launcher attends to.
            host: the host name of replica 0.
            port: the port of the coordinator.
            env: the environment variables of the launcher.
        """
        self._start = functools.partial(_attendant, own, host, port, env)
        self._attendant: Attendant | None = None

    def start(self) -> Mapping[str, str]:
        """Begin to attend; there are no variables."""
        self._attendant = self._start()
        return {}

    def close(self) -> None:
        """End."""
        if self._attendant is not None:
            self._attendant.close()


def _attendant(own: Attend, host: str, port: int, env: Mapping[str, str]) -> Attendant:
    return Attendant(
        own,
        lambda: (host, port),
        look=lambda ranks: asking.reports_below(os.getpid(), ranks),
        on_hang=lambda hang: last_words.write_hang(env, hang.as_dict() if hang else None),
    )
