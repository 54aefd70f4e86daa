"""Which start of a job's processes something belongs to, and where each rank runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Life:
    """One start of the training processes inside the pods of an attempt.

    Attributes:
        attempt: the number of the attempt, from 0.
        number: the number of the start within the attempt, from 0.

    Raises:
        ValueError: a number is negative.
    """

    attempt: int = 0
    number: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.attempt, self.number) < 0:
            sentence = f"attempt and number must be at least 0, got {self.attempt}, {self.number}"
            raise ValueError(sentence)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a rank runs.

    Attributes:
        replica: the index of its pod.
        node: the name of its node; empty if it is unknown.

    Raises:
        ValueError: the index is negative.
    """

    replica: int
    node: str = ""

    def __post_init__(self) -> None:
        """Check the index."""
        if self.replica < 0:
            raise ValueError(f"the index of a replica must be at least 0, got {self.replica}")

    def __str__(self) -> str:
        return f"replica {self.replica}" + (f", node {self.node}" if self.node else "")
