"""What the launcher offers to the control channel: a place to live, and the notices of a stop."""

from collections.abc import Mapping
from typing import Any, Protocol


class Host(Protocol):
    """Something that lives in the launcher as long as the training processes do.

    It may start threads. It must not start processes, because the launcher waits for all processes.
    """

    def start(self) -> Mapping[str, str]:
        """Start, and return environment variables for the training processes."""
        ...

    def close(self) -> None:
        """End, in bounded time; called once, when no training process runs any more."""
        ...

    def last_words(self) -> Mapping[str, Any] | None:
        """Return how far the training came, after `close`; None if that is not known here."""
        ...


class Notices(Protocol):
    """Where the launcher gives notice that the pod has to stop."""

    def notice(self, seconds_left: float, why: str) -> bool:
        """Give notice, without waiting for an answer.

        Args:
            seconds_left: the time until the processes are killed.
            why: the cause, for people.

        Returns:
            Whether all processes of this pod are connected and will end by themselves. If not, the
            launcher sends them SIGTERM.
        """
        ...


class Control(Host, Notices, Protocol):
    """Both ends of a control channel in the launcher."""


class NoControl:
    """Stands for a control channel where there is none."""

    def start(self) -> Mapping[str, str]:
        """Return no variables."""
        return {}

    def close(self) -> None:
        """Do nothing."""

    def last_words(self) -> Mapping[str, Any] | None:
        """Return None."""
        return None

    def notice(self, seconds_left: float, why: str) -> bool:  # noqa: ARG002  # the protocol's
        """Return that nobody attends."""
        return False
