"""The limits of a client of the API server, and their defaults."""

from dataclasses import dataclass

IN_FLIGHT = 64  # concurrent requests; more would only fill the API server's queues
PER_SECOND = 1000.0  # more than a process can send
BURST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The limits of a client.

    Attributes:
        per_second: the maximum requests per second, on average.
        burst: the maximum burst of requests.
        in_flight: the maximum concurrent requests.

    Raises:
        ValueError: a limit is not positive.
    """

    per_second: float = PER_SECOND
    burst: int = BURST
    in_flight: int = IN_FLIGHT

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                sentence = f"{name} must be above 0, got {getattr(self, name)}"
                raise ValueError(sentence)

    def after(self, due: float, now: float) -> tuple[float, float]:
        """Return when a request may be sent and when the next one is due, by a leaky bucket.

        Args:
            due: when this request is due, as computed for the previous one.
            now: the current time, by the same clock.
        """
        slack = (self.burst - 1) / self.per_second
        begins = max(due, now)
        return max(begins - slack, now), begins + 1 / self.per_second
