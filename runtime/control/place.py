"""How far a rank's training has come, in numbers that all ranks share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """How far a rank's training has come; places are ordered, and a rank's place never falls.

    Collectives keep these numbers equal on ranks that are at the same line of a script. The numbers
    of a pass and a batch would not do, because one rank alone may evaluate.

    Attributes:
        steps: the number of completed optimizer steps, >= 0.
        epochs: the number of epochs that `Accelerator.epochs` has begun, >= 0.

    Raises:
        ValueError: a number is negative.
    """

    steps: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.steps < 0 or self.epochs < 0:
            sentence = f"steps and epochs must be at least 0, got {self.steps} and {self.epochs}"
            raise ValueError(sentence)
