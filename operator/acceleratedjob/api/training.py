"""What the status says of the training: `status.progress`, `checkpoint`, `goodput` and `shown`."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from acceleratedjob.api.schema import MAX_COUNT, choice, integer, number, section, string, time

MAX_PERCENT = 100
TIERS = MEMORY, STORAGE = "memory", "storage"
STALLS = HANG, SILENCE = "Hang", "Silence"
_COUNT = integer(minimum=0, maximum=MAX_COUNT)
_SECONDS = number(minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`status.progress`: how far the training is; None where that is not known.

    Attributes:
        attempt: the attempt that the numbers are of.
        life: the life that they are of, from 0.
        first_step: the number of completed optimizer steps when the attempt began to train.
        step: the number of completed optimizer steps.
        total_steps: the number of optimizer steps of the training.
        epoch: the number of epochs begun.
        epochs: the number of epochs of the training.
        percent: how much of the steps is done.
        eta_seconds: the estimated time to the end.
        samples_per_second: the recent rate of the samples of all ranks.
        step_seconds: the recent duration of a step.
        loss: the last known loss, such as `0.25` or `NaN`.
        time: when the operator read the numbers.
    """

    attempt: Annotated[int, _COUNT] = 0
    life: Annotated[int, _COUNT] = 0
    first_step: Annotated[int | None, _COUNT] = None
    step: Annotated[int | None, _COUNT] = None
    total_steps: Annotated[int | None, _COUNT] = None
    epoch: Annotated[int | None, _COUNT] = None
    epochs: Annotated[int | None, _COUNT] = None
    percent: Annotated[int | None, integer(minimum=0, maximum=MAX_PERCENT)] = None
    eta_seconds: Annotated[int | None, _COUNT] = None
    samples_per_second: Annotated[float | None, _SECONDS] = None
    step_seconds: Annotated[float | None, _SECONDS] = None
    loss: Annotated[str | None, string] = None
    time: Annotated[str | None, string] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`status.checkpoint`: a complete checkpoint.

    Attributes:
        step: the number of completed optimizer steps that it contains.
        tier: where it lies: in the memory of the pods, which is lost with them, or on storage.
        time: when it was complete, by the clock of its pod.
        seconds: how long it took to write; None if that is not known.
    """

    step: Annotated[int, _COUNT]
    tier: Annotated[str, choice(*TIERS)]
    time: Annotated[str, time]
    seconds: Annotated[float | None, _SECONDS] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """`status.stall`: since when the training has stalled; the clock of stallDeadlineSeconds.

    Attributes:
        reason: no rank comes forward, or the pod of replica 0 does not answer.
        since: the first answer that said so, or the first request without an answer.
        life: the start of the processes that hangs; None if there is no answer.
        step: the step at which it hangs; None if there is no answer.
    """

    reason: Annotated[str, choice(*STALLS)]
    since: Annotated[str, time]
    life: Annotated[int | None, _COUNT] = None
    step: Annotated[int | None, _COUNT] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Seconds that were lost, by cause; None where that is not known.

    Attributes:
        pending: from the start of an attempt, or the end of the one before, until all pods are up.
        starting: starting the processes.
        loading: importing, loading the data and the checkpoint.
        redone: steps that were executed again.
        checkpoint: pauses for checkpoints.
        hang: no rank came forward.
        stopped: the job was suspended.
    """

    pending: Annotated[float | None, _SECONDS] = None
    starting: Annotated[float | None, _SECONDS] = None
    loading: Annotated[float | None, _SECONDS] = None
    redone: Annotated[float | None, _SECONDS] = None
    checkpoint: Annotated[float | None, _SECONDS] = None
    hang: Annotated[float | None, _SECONDS] = None
    stopped: Annotated[float | None, _SECONDS] = None

    def plus(self, other: "Lost") -> "Lost":
        """Return the sums; a cause that neither knows stays unknown."""
        pairs = ((one.name, one.name) for one in dataclasses.fields(self))
        return Lost(**{name: total(getattr(self, a), getattr(other, a)) for name, a in pairs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """`status.goodput.earlier`: what was counted before the processes of this attempt began.

    Attributes:
        step: the last known step of the earlier attempts.
        productive_seconds: the time of the steps that were kept.
        lost: the seconds that were lost.
    """

    step: Annotated[int | None, _COUNT] = None
    productive_seconds: Annotated[float | None, _SECONDS] = None
    lost: Annotated[Lost, section(Lost, whole=False)] = Lost()


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """`status.goodput`: what the time of the job went into, over all attempts.

    Attributes:
        ratio: the productive seconds by the seconds since the job first started.
        productive_seconds: the time of the steps that were kept.
        lost: the seconds that were lost, by cause.
        start_time: when the job first started.
        earlier: the part of the numbers that was counted before this attempt's processes began.
    """

    ratio: Annotated[float | None, number(minimum=0, maximum=1)] = None
    productive_seconds: Annotated[float | None, _SECONDS] = None
    lost: Annotated[Lost, section(Lost, whole=False)] = Lost()
    start_time: Annotated[str | None, time] = None
    earlier: Annotated[Earlier, section(Earlier, whole=False)] = Earlier()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """`status.shown`: texts for the columns of `kubectl get`.

    Attributes:
        progress: the percentage of the steps that are done, such as `24%`.
        eta: the estimated time to the end, such as `1h12m`.
        goodput: the goodput, such as `87%`.
    """

    progress: Annotated[str | None, string] = None
    eta: Annotated[str | None, string] = None
    goodput: Annotated[str | None, string] = None


def total(*values: float | None) -> float | None:
    """Return the sum of the known values, to a tenth; None if none is known.

    >>> total(1.25, None, 2), total(None)
    (3.2, None)
    """
    known = [value for value in values if value is not None]
    return round(min(sum(known), MAX_COUNT), 1) if known else None
