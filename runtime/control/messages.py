"""The messages of the control channel beside those of the agreement."""

import signal
from dataclasses import dataclass

from runtime.control.agreement import messages as agreement
from runtime.control.beat import Beat
from runtime.control.frames import printable
from runtime.control.progress.snapshot import Tier
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.summary import Summary

MAX_TEXT = 256  # characters
MAX_SENTENCE = 512  # characters
MAX_RANKS = 1024  # of a pod
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # of a process that was asked to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first line of a rank: which job, attempt and life it belongs to.

    Attributes:
        uid: the UID of the job; empty outside of a job.
        attempt: the number of the attempt, >= 0.
        life: the random name of the life, from the coordinator.
        rank: the rank, >= 0.
    """

    uid: str
    attempt: int
    life: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointed:
    """A checkpoint is complete; said by rank 0.

    Attributes:
        step: its step, >= 0.
        seconds: the time from its beginning until it was complete, >= 0.
        tier: where it lies.
    """

    step: int
    seconds: float
    tier: Tier = Tier.STORAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long the training is, as far as the script has said it; said by rank 0.

    Attributes:
        epochs: the number of epochs; None if it is not known.
        steps_per_epoch: the number of optimizer steps in an epoch; None if it is not known.
        first_step: the number of completed steps when rank 0 began to train; None if not known.
    """

    epochs: int | None = None
    steps_per_epoch: int | None = None
    first_step: int | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The coordinator lives; its first message on each connection, and one each second."""


@dataclass(frozen=True, slots=True)
class Collect:
    """All ranks must report where they are; said by the coordinator."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a rank is.

    Attributes:
        report: its stack, and the collectives that it has entered.
    """

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Attend:
    """The first line of a launcher: which pod it attends to.

    Attributes:
        uid: the UID of the job; empty outside of a job.
        attempt: the number of the attempt, >= 0.
        replica: the index of the pod, >= 0.
        node: the name of its node; empty if it is unknown.
    """

    uid: str
    attempt: int
    replica: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A launcher must look at some of its ranks from outside; said by the coordinator.

    Attributes:
        ranks: the ranks, ascending.
    """

    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a launcher has seen of a rank.

    Attributes:
        rank: the rank.
        report: where it is.
    """

    rank: int
    report: Report


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on the training that stands now; said by the coordinator.

    Attributes:
        hang: which rank the others wait for; None if the training does not hang.
    """

    hang: Summary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Digested:
    """The digest of all tensors of a rank.

    Attributes:
        step: the number of completed optimizer steps, >= 0.
        tensors: the number of tensors, >= 0.
        digest: the digest of all of them, in hexadecimal.
    """

    step: int
    tensors: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """All ranks must say the digest of their first tensors; said by the coordinator.

    Attributes:
        step: the step of a digest that they have said.
        count: the number of tensors, >= 0.
    """

    step: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The digest of the first tensors of a rank.

    Attributes:
        step: the step, as asked.
        count: the number of tensors, as asked.
        digest: the digest of them; empty if this rank does not have it any more.
        name: the name of the last of these tensors; empty if there are fewer.
        last: its digest; empty if there are fewer.
    """

    step: int
    count: int
    digest: str
    name: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fell:
    """A training process of a pod has failed, or has stopped unasked; said by its launcher.

    Attributes:
        number: the life, >= 0.
        rank: the rank of the process.
        status: the exit code, or minus the number of the signal that terminated the process.
        exception: the type of the exception, as the process has told it; empty if it has not.
        message: the message of the exception.
        at_step: the number of completed optimizer steps; None if the process has not told it.
        why_not: why this pod must not begin another life; empty if it may.
    """

    number: int
    rank: int
    status: int
    exception: str = ""
    message: str = ""
    at_step: int | None = None
    why_not: str = ""

    @property
    def is_stop(self) -> bool:
        """Whether the process was asked to stop behind its launcher's back: all ranks stop then."""
        return self.status in _STOPPED

    @property
    def is_error(self) -> bool:
        """Whether the process has ended by itself."""
        return self.status > 0 and not self.is_stop

    @property
    def sentence(self) -> str:
        """What has happened, for people."""
        if self.exception:
            return f"rank {self.rank}: {printable(self.exception)}"
        if self.is_stop:
            return f"rank {self.rank} was asked to stop"
        how = f"exited with code {self.status}" if self.is_error else f"got signal {-self.status}"
        return f"rank {self.rank} {how}"

    def is_like(self, other: "Fell") -> bool:
        """Whether both are the same error at the same step, which is known."""
        facts = (self.exception, self.at_step, self.status)
        is_known = bool(self.exception) and self.at_step is not None
        return is_known and facts == (other.exception, other.at_step, other.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """Nothing of a life runs in a pod any more; said by its launcher.

    Attributes:
        number: the life, >= 0.
    """

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """A pod begins no other life: it was asked to stop, or has ended; said by its launcher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """A launcher must end all processes of a life, because another one follows.

    Attributes:
        number: the life that ends, >= 0.
        why: what has failed, for people.
        at_once: whether they are killed; else they are stopping by themselves.
    """

    number: int
    why: str
    at_once: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A launcher must start the processes of a life.

    Attributes:
        number: the life, >= 1.
        life: its random name.
    """

    number: int
    life: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No life follows the current one; a launcher ends as it does without a coordinator.

    Attributes:
        number: the current life, >= 0.
        why: the reason, for people.
    """

    number: int
    why: str


Fact = (
    Hello
    | Beat
    | Checkpointed
    | Plan
    | Alive
    | Collect
    | Whereabouts
    | Attend
    | Look
    | Seen
    | Judged
    | Digested
    | Compare
    | Compared
    | Fell
    | Cleared
    | Retire
    | Clear
    | Begin
    | GiveUp
)
Message = Fact | agreement.Message
