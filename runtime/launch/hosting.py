"""What the launcher offers to the control channel: a place to live, and the notices of a stop."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from runtime.control.lives import Order
from runtime.control.messages import Begin, Fell


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


class Restarts(Protocol):
    """Where the launchers of all pods agree on another life."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Hear of orders; called before `start`.

        Args:
            wake: called when there is an order, by any thread.
        """
        ...

    def orders(self) -> list[Order]:
        """Return the orders that have come since the last call; the same may come again."""
        ...

    def fell(self, failure: Fell) -> bool:
        """Tell that a process has failed, and return whether an order is to be expected."""
        ...

    def cleared(self, number: int) -> None:
        """Tell that nothing of a life runs in this pod any more."""
        ...

    def retire(self) -> None:
        """Tell that this pod begins no other life."""
        ...

    def begin(self, order: Begin) -> Mapping[str, str]:
        """Return environment variables for the processes of the next life."""
        ...


class Control(Host, Notices, Restarts, Protocol):
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

    def listen(self, wake: Callable[[], None]) -> None:
        """Do nothing."""

    def orders(self) -> list[Order]:
        """Return none."""
        return []

    def fell(self, failure: Fell) -> bool:  # noqa: ARG002  # the protocol's
        """Return that there is nobody who could give an order."""
        return False

    def cleared(self, number: int) -> None:
        """Do nothing."""

    def retire(self) -> None:
        """Do nothing."""

    def begin(self, order: Begin) -> Mapping[str, str]:  # noqa: ARG002  # the protocol's
        """Return no variables."""
        return {}
