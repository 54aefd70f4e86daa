"""Which start of which job a coordinator and its ranks belong to."""

import secrets
from dataclasses import dataclass, field

from runtime.control.messages import Hello
from runtime.control.verdicts.life import Home


def random_name() -> str:
    """Return the name of a new life."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which ranks a coordinator speaks to; anything else is refused.

    Attributes:
        uid: the UID of the job; empty outside of a job.
        attempt: the number of the attempt.
        size: the number of ranks.
        processes: the number of ranks in each pod, >= 1.
        name: the name of the job, for people.
        life: a random name of this start of the processes.
    """

    uid: str
    attempt: int
    size: int
    processes: int = 1
    name: str = ""
    life: str = field(default_factory=random_name)

    def hello(self, rank: int) -> Hello:
        """Return what a rank of this life says first."""
        return Hello(uid=self.uid, attempt=self.attempt, life=self.life, rank=rank)

    @property
    def homes(self) -> dict[int, Home]:
        """For each rank, where it runs."""
        return {rank: Home(rank // self.processes) for rank in range(self.size)}
