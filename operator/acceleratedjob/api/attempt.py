"""An attempt of a job: its number and its size."""

from dataclasses import dataclass

from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a job: a gang of pods that start and stop together.

    Attributes:
        number: the number of earlier attempts, at least 0.
        size: the number of replicas, at least 1; less than `spec.replicas` if an elastic job
            continues with the pods that have found a node.
        processes: the number of processes per replica, at least 1.

    Raises:
        ValueError: a number is below its minimum.
    """

    number: int
    size: int
    processes: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.number < 0 or self.size < 1 or self.processes < 1:
            sentence = f"an attempt must have a number >= 0, replicas and processes, got {self}"
            raise ValueError(sentence)

    @classmethod
    def full(cls, spec: JobSpec, number: int = 0) -> "Attempt":
        """Return an attempt with as many replicas as the spec requests."""
        return cls(number, spec.replicas, spec.processes)

    @classmethod
    def current(cls, spec: JobSpec, status: Status) -> "Attempt":
        """Return the attempt in the status; of the full size if no size is recorded yet.

        The number of processes is also the recorded one, even if a later version of the operator
        counts more devices.
        """
        if status.size is None:
            return cls.full(spec, status.attempt)
        processes = status.processes_per_replica or spec.processes
        return cls(status.attempt, status.size or spec.replicas, processes)

    @property
    def world_size(self) -> int:
        """The number of processes of all replicas together."""
        return self.size * self.processes
