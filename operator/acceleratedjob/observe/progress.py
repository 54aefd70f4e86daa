"""Reads the answer of a job to `GET /progress`; docs/progress.schema.json is its schema.

The answer comes from inside a pod and is not trusted: its size is bounded, and an answer of which
one known value has another type, or is out of its range, is refused as a whole. Properties that are
not known here are ignored: a later version of the runtime may answer them.
"""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from acceleratedjob.api.schema import (
    MAX_COUNT,
    Reader,
    choice,
    integer,
    list_of,
    mapping,
    number,
    read,
    section,
    text,
    time,
)
from acceleratedjob.api.training import MAX_PERCENT, Checkpoint, Lost
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.terminal import plain

MAX_BYTES = 256 * 1024
MAX_TEXT = 500  # characters of a verdict
MAX_VERDICTS = 20
MAX_CHECKPOINTS = 10
MAX_FAILURES = 10
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NOTHING = Lost()
_COUNT = integer(minimum=0, maximum=MAX_COUNT)
_SECONDS = number(minimum=0)


class NotProgressError(ValueError):
    """An answer is not the progress of a job."""


class VerdictKind(StrEnum):
    """What is wrong with a training."""

    HANG = "hang"
    STRAGGLER = "straggler"
    DIVERGENCE = "divergence"


def _sentence(value: object, path: str) -> str:
    """Read a text as one line that can be printed and encoded."""
    given: str = text(r"(?s:.*)", "a string", at_most=MAX_TEXT)(value, path)
    return " ".join(plain(given).split())


def _loss(value: object, path: str) -> float:
    """Read a number, or a text for one that JSON has no literal for."""
    if isinstance(value, str):
        return _NOT_FINITE[choice(*_NOT_FINITE)(value, path)]
    signed: float = number(minimum=-math.inf)(value, path)
    return signed


def _lenient(cls: type[Any], *, at_most: int) -> Reader:
    return list_of(section(cls, whole=False), at_most=at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong, with which rank, since when.

    Attributes:
        kind: what is wrong; a later version of the runtime may know more kinds.
        text: a sentence for people.
        rank: the rank that is to blame; None if no single one is.
        replica: the replica of this rank.
        since: when it began, by the clock of the pod of rank 0.
    """

    kind: Annotated[str, _sentence]
    text: Annotated[str, _sentence] = ""
    rank: Annotated[int | None, _COUNT] = None
    replica: Annotated[int | None, _COUNT] = None
    since: Annotated[str | None, time] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptGoodput:
    """What the time of one attempt went into.

    Attributes:
        productive_seconds: the steps that were kept times the duration of a step.
        lost: the seconds that were lost, by cause.
    """

    productive_seconds: Annotated[float | None, _SECONDS] = None
    lost: Annotated[Lost, section(Lost, whole=False)] = _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeFailure:
    """What has ended a life, after which another one has begun in the same pods.

    Attributes:
        life: the life that ended, from 0.
        rank: the rank that failed first.
        time: when the next life began, by the clock of the pod of replica 0.
        exit_code: the exit code of the process; None if a signal terminated it.
        signal: the number of this signal.
        exception: the type of the exception; empty if the process has not told it.
        message: the message of the exception.
        step: the number of completed optimizer steps, if the process has told it.
    """

    life: Annotated[int, _COUNT]
    rank: Annotated[int, _COUNT]
    time: Annotated[str, time]
    exit_code: Annotated[int | None, _COUNT] = None
    signal: Annotated[int | None, _COUNT] = None
    exception: Annotated[str, _sentence] = ""
    message: Annotated[str, _sentence] = ""
    step: Annotated[int | None, _COUNT] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the training is; None where that is not known.

    Attributes:
        uid: the UID of the job that answers; an earlier version of the runtime does not tell it.
        attempt: the attempt that answers.
        life: the start of the processes within the attempt, from 0.
        epoch: the number of epochs begun.
        epochs: the number of epochs of the training.
        first_step: the number of completed optimizer steps when these processes began to train.
        step: the number of completed optimizer steps.
        total_steps: the number of optimizer steps of the training.
        samples_per_second: the recent rate of the samples of all ranks.
        step_seconds: the recent duration of a step.
        percent: how much of the steps is done.
        eta_seconds: the estimated time to the end.
        loss: the last known loss; it may be infinite or NaN.
        checkpoint: the newest complete checkpoint; its time is by the clock of its pod.
        checkpoints: the newest complete checkpoints, the newest first.
        verdicts: what is wrong now.
        failures: what has ended the newest of the lives before this one, the newest first.
        goodput: what the time of the attempt went into.
    """

    uid: Annotated[str | None, _sentence] = None
    attempt: Annotated[int | None, _COUNT] = None
    life: Annotated[int, _COUNT] = 0
    epoch: Annotated[int | None, _COUNT] = None
    epochs: Annotated[int | None, _COUNT] = None
    first_step: Annotated[int | None, _COUNT] = None
    step: Annotated[int | None, _COUNT] = None
    total_steps: Annotated[int | None, _COUNT] = None
    samples_per_second: Annotated[float | None, _SECONDS] = None
    step_seconds: Annotated[float | None, _SECONDS] = None
    percent: Annotated[int | None, integer(minimum=0, maximum=MAX_PERCENT)] = None
    eta_seconds: Annotated[float | None, _SECONDS] = None
    loss: Annotated[float | None, _loss] = None
    checkpoint: Annotated[Checkpoint | None, section(Checkpoint, whole=False)] = None
    checkpoints: Annotated[
        tuple[Checkpoint, ...], _lenient(Checkpoint, at_most=MAX_CHECKPOINTS)
    ] = ()
    verdicts: Annotated[tuple[Verdict, ...], _lenient(Verdict, at_most=MAX_VERDICTS)] = ()
    failures: Annotated[tuple[LifeFailure, ...], _lenient(LifeFailure, at_most=MAX_FAILURES)] = ()
    goodput: Annotated[AttemptGoodput, section(AttemptGoodput, whole=False)] = AttemptGoodput()

    def verdict(self, kind: VerdictKind) -> Verdict | None:
        """Return the first verdict of a kind."""
        return next((one for one in self.verdicts if one.kind == kind), None)


def read_progress(answer: bytes) -> Progress:
    """Return the progress in an answer.

    Raises:
        NotProgressError: the answer is something else.
    """
    if len(answer) > MAX_BYTES:
        sentence = f"an answer must have at most {MAX_BYTES} bytes"
        raise NotProgressError(sentence)
    try:
        told = json.loads(answer, parse_constant=_refuse)
        return read(Progress, mapping(told, "progress"), "progress", whole=False)
    except (ValueError, RecursionError, InvalidSpec) as error:
        raise NotProgressError(str(error)) from error


def read_last_progress(told: object) -> Progress | None:
    """Return the progress in a termination message, which is as little trusted; None if invalid.

    Args:
        told: the decoded JSON.
    """
    try:
        return read(Progress, mapping(told, "progress"), "progress", whole=False)
    except (ValueError, InvalidSpec):
        return None


def _refuse(constant: str) -> None:
    sentence = f"{constant} is not JSON"
    raise ValueError(sentence)
