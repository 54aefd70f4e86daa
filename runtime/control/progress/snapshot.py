"""What is known of a training at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from runtime.control.beat import Phase
from runtime.control.place import Place
from runtime.control.progress.bounds import check_count, check_number

MAX_PERCENT = 100


class Tier(StrEnum):
    """Where a checkpoint lies."""

    MEMORY = "memory"  # the pod's /dev/shm
    STORAGE = "storage"  # a volume or an object store


class VerdictKind(StrEnum):
    """What is wrong with a rank."""

    HANG = "hang"
    STRAGGLER = "straggler"
    DIVERGENCE = "divergence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How long the training is, as far as the script has said it; None where it has not.

    Attributes:
        epochs: the number of epochs that were passed to `Accelerator.epochs`.
        steps_per_epoch: the number of optimizer steps in an epoch.
        total_steps: the number of optimizer steps; None stands for the product of the others.
        first_step: the number of completed steps when this life began to train.

    Raises:
        ValueError: a number is negative or too large.
    """

    epochs: int | None = None
    steps_per_epoch: int | None = None
    total_steps: int | None = None
    first_step: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("epochs", "steps_per_epoch", "total_steps", "first_step"):
            check_count(name, getattr(self, name))

    @property
    def steps(self) -> int | None:
        """The number of optimizer steps of the training, if it is known."""
        if self.total_steps is not None or self.epochs is None or self.steps_per_epoch is None:
            return self.total_steps
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class RankProgress:
    """What a rank last said of itself; None where it has said nothing in this life.

    Attributes:
        rank: the rank.
        place: how far it has come.
        phase: what its main thread is doing.
        seconds_since_step: the time since its last completed optimizer step.
        seconds_since_beat: the time since the coordinator last heard from it.
        step_seconds: the median duration of its last 50 steps.
        own_seconds: the same, without the time spent waiting in collectives.

    Raises:
        ValueError: a number is negative or not finite.
    """

    rank: int
    place: Place | None = None
    phase: Phase | None = None
    seconds_since_step: float | None = None
    seconds_since_beat: float | None = None
    step_seconds: float | None = None
    own_seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("rank", self.rank)
        for name in ("seconds_since_step", "seconds_since_beat", "step_seconds", "own_seconds"):
            check_number(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointProgress:
    """A complete checkpoint.

    Attributes:
        step: the number of completed optimizer steps that it contains.
        tier: where it lies.
        time: when it was complete.
        seconds: how long the training was paused for it; None if that is not known.

    Raises:
        ValueError: a number is negative or not finite, or the time has no time zone.
    """

    step: int
    tier: Tier
    time: datetime
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers and the time."""
        check_count("step", self.step)
        check_number("seconds", self.seconds)
        _check_time("time", self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong, with which rank, since when.

    Attributes:
        kind: what is wrong.
        text: a sentence for people, with names and numbers.
        rank: the rank that is to blame; None if no single one is.
        replica: the replica of this rank.
        node: the node of this replica.
        place: how far the rank had come.
        since: when it began.

    Raises:
        ValueError: a number is negative, or the time has no time zone.
    """

    kind: VerdictKind
    text: str
    rank: int | None = None
    replica: int | None = None
    node: str | None = None
    place: Place | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        """Check the numbers and the time."""
        check_count("rank", self.rank)
        check_count("replica", self.replica)
        _check_time("since", self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeFailure:
    """What has ended a life, after which the pods have begun another one.

    Attributes:
        life: the life that ended, from 0.
        rank: the rank that failed first.
        replica: its replica.
        time: when the next life began.
        exit_code: the exit code of its process; None if a signal terminated it.
        signal: the number of this signal.
        exception: the type of the exception, as the process has told it; empty if it has not.
        message: its message.
        step: the number of completed optimizer steps, if the process has told it.

    Raises:
        ValueError: a number is negative or too large, or the time has no time zone.
    """

    life: int
    rank: int
    replica: int
    time: datetime
    exit_code: int | None = None
    signal: int | None = None
    exception: str = ""
    message: str = ""
    step: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers and the time."""
        for name in ("life", "rank", "replica", "exit_code", "signal", "step"):
            check_count(name, getattr(self, name))
        _check_time("time", self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The seconds that an attempt has lost, by cause; None where the pod cannot know.

    Attributes:
        pending: waiting for nodes.
        starting: from the start of the processes, or the end of a life, to the first beat.
        loading: from the first beat of a life to its first training batch, checkpoint included.
        redone: steps that were executed again, because the checkpoint was older.
        checkpoint: pauses for checkpoints, and for agreeing on them.
        hang: no rank came forward, until one did or the life ended.
        stopped: the job was suspended, or waited between two attempts.

    Raises:
        ValueError: a number is negative or not finite.
    """

    pending: float | None = None
    starting: float | None = None
    loading: float | None = None
    redone: float | None = None
    checkpoint: float | None = None
    hang: float | None = None
    stopped: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for one in fields(self):
            check_number(one.name, getattr(self, one.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """How much of the time of an attempt went into steps that count.

    Attributes:
        ratio: the productive time by the time since the attempt's processes were started.
        productive_seconds: the steps that were kept times the time of a step; None if that is not
            known yet.
        lost: the rest, as far as its cause is known.

    Raises:
        ValueError: the ratio is not in [0, 1], or the time is negative or not finite.
    """

    ratio: float | None = None
    productive_seconds: float | None = None
    lost: Lost = field(default_factory=Lost)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_number("productive_seconds", self.productive_seconds)
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            sentence = f"ratio must be in [0, 1], got {self.ratio}"
            raise ValueError(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a training at one moment; None where it is not known.

    Attributes:
        name: the name of the job; empty outside of a job.
        uid: the UID of the job; empty outside of a job.
        attempt: the attempt, from 0.
        life: the life within the attempt, from 0.
        epoch: the number of epochs begun.
        epochs: the number of epochs of the training.
        first_step: the number of completed optimizer steps when this life began to train.
        step: the number of completed optimizer steps.
        total_steps: the number of optimizer steps of the training.
        samples: the number of samples of all ranks that were trained on, since the job began.
        samples_per_second: the recent rate of the samples of all ranks, without pauses.
        step_seconds: the recent duration of a step, without pauses.
        percent: how much of the steps is done, rounded down.
        eta_seconds: the estimated time to the end of the last epoch, evaluations included.
        loss: the last known loss; it may be infinite or NaN.
        metrics: the numbers last passed to `Accelerator.log`; they may be infinite or NaN.
        losses: (step, loss) at steps that are spread evenly.
        last_step_time: when rank 0 completed its last step.
        checkpoints: the newest complete checkpoints, the newest first.
        ranks: all ranks of the world, in order.
        verdicts: what is wrong now.
        failures: what has ended the newest of the lives before this one, the newest first.
        goodput: what the time of the attempt went into.

    Raises:
        ValueError: a number is negative, not finite or too large, or the time has no time zone.
    """

    name: str = ""
    uid: str = ""
    attempt: int = 0
    life: int = 0
    epoch: int | None = None
    epochs: int | None = None
    first_step: int | None = None
    step: int | None = None
    total_steps: int | None = None
    samples: int | None = None
    samples_per_second: float | None = None
    step_seconds: float | None = None
    percent: int | None = None
    eta_seconds: float | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()
    last_step_time: datetime | None = None
    checkpoints: tuple[CheckpointProgress, ...] = ()
    ranks: tuple[RankProgress, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[LifeFailure, ...] = ()
    goodput: Goodput = field(default_factory=Goodput)

    def __post_init__(self) -> None:
        """Check the numbers and the time."""
        for name in (
            "attempt",
            "life",
            "epoch",
            "epochs",
            "first_step",
            "step",
            "total_steps",
            "samples",
        ):
            check_count(name, getattr(self, name))
        for name in ("samples_per_second", "step_seconds", "percent", "eta_seconds"):
            check_number(name, getattr(self, name))
        if self.percent is not None and self.percent > MAX_PERCENT:
            sentence = f"percent must be at most {MAX_PERCENT}, got {self.percent}"
            raise ValueError(sentence)
        _check_time("last_step_time", self.last_step_time)

    @property
    def checkpoint(self) -> CheckpointProgress | None:
        """The newest complete checkpoint."""
        return self.checkpoints[0] if self.checkpoints else None


def _check_time(name: str, value: datetime | None) -> None:
    if value is not None and value.utcoffset() is None:
        sentence = f"{name} must have a time zone, got {value}"
        raise ValueError(sentence)
