"""`acceleratedjob logs`: selects replicas, and prefixes their lines."""

from dataclasses import dataclass

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.commands import screen
from acceleratedjob.commands.errors import Misuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which logs a user asks for.

    Attributes:
        rank: print only the replica of this rank; None for all.
        replica: print only this replica; None for all.
        previous: whether the logs are those of the previous attempt.
    """

    rank: int | None = None
    replica: int | None = None
    previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The selected replicas of an attempt.

    Attributes:
        job: the name of the job.
        attempt: the number of the attempt.
        size: the number of replicas of the attempt.
        processes: the number of processes per replica.
        replica: the index of the selected replica; None for all.
    """

    job: str
    attempt: int
    size: int
    processes: int
    replica: int | None = None

    @property
    def indices(self) -> range:
        """The indices of the selected replicas."""
        return range(self.size) if self.replica is None else range(self.replica, self.replica + 1)

    @property
    def selector(self) -> str:
        """The label selector of the pods of the attempt."""
        return f"{names.JOB_NAME_LABEL}={self.job},{names.ATTEMPT_LABEL}={self.attempt}"

    def prefix(self, index: int, *, colour: bool) -> str:
        """Return the prefix of the lines of a replica; empty if only one replica is selected."""
        if len(self.indices) == 1:
            return ""
        text = f"rank {index}" if self.processes == 1 else f"replica {index}"
        padded = text.ljust(len(text) - len(str(index)) + len(str(self.size - 1)))
        if not colour:
            return f"{padded} | "
        return f"{screen.color(index)}{padded} |{screen.RESET} "


def choose(job: View, wish: Wish, why: str = "`acceleratedjob why`") -> Choice:
    """Select all replicas, or one by its index or by a rank.

    Args:
        job: the job.
        wish: which logs.
        why: the command that explains the state of the job.

    Raises:
        Misuse: the job has no such replica or rank.
    """
    status, name = job.get("status") or {}, job["metadata"]["name"]
    processes, size = int(status.get("processesPerReplica") or 1), int(status.get("size") or 0)
    attempt = int(status.get("attempt") or 0) - wish.previous
    if attempt < 0:
        raise Misuse(f"{name} has no previous attempt: its current attempt is the first")
    if not size:
        raise Misuse(f"{name} has no pods: see {why}")
    replica = wish.replica if wish.rank is None else wish.rank // processes
    if replica is not None and not 0 <= replica < size:
        asked = f"--replica {replica}" if wish.rank is None else f"--rank {wish.rank}"
        ranks = f"ranks 0 to {size * processes - 1}, replicas 0 to {size - 1}"
        raise Misuse(f"{asked}: {name} has {ranks}")
    return Choice(job=name, attempt=attempt, size=size, processes=processes, replica=replica)


def mixed(choice: Choice, rank: int) -> str:
    """Return a notice if the output of a rank is mixed with that of other ranks in its pod."""
    if choice.processes == 1:
        return ""
    first = rank // choice.processes * choice.processes
    ranks = f"{first} to {first + choice.processes - 1}"
    return f"rank {rank} is in replica {choice.replica}, whose log mixes ranks {ranks}"
