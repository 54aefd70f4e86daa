"""Whether the attempts of a job get further, from what they reported when they ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.training import STORAGE
from acceleratedjob.planner.failures import Cause

MAX_EQUAL_ENDS = 3  # attempts in a row


@dataclass(frozen=True, slots=True)
class End:
    """Where and how an attempt has ended.

    Attributes:
        attempt: the number of the attempt.
        step: the number of completed training steps; None if it was not reported.
        exception: the type of the exception that ended it; None if it was not reported.
    """

    attempt: int
    step: int | None
    exception: str | None


def is_stuck(end: End, failures: Sequence[Failure]) -> bool:
    """Whether attempts in a row have ended at the same step with the same exception.

    An attempt between them that ended in another way, or because of a resize or a suspension,
    breaks the row. So does one that did not report its step: it may have ended before the training,
    for a reason that a restart can remove, such as a server that does not answer.

    Args:
        end: the end of the current attempt.
        failures: the earlier failures that ended attempts, the newest first.
    """
    if end.step is None or end.exception is None:
        return False
    before = [End(one.attempt, one.step, one.exception) for one in failures]
    row = [End(end.attempt - n, end.step, end.exception) for n in range(1, MAX_EQUAL_ENDS)]
    return before[: len(row)] == row


def newest_checkpoint(cause: Cause, status: Status) -> int | None:
    """Return the step of the newest checkpoint on storage; None if none is known.

    The process that failed may have reported a newer one than the operator has asked for.

    Args:
        cause: why the attempt ends.
        status: the status of the attempt.
    """
    saved, ending = status.checkpoint, cause.pod.ending
    known = (
        saved.step if saved is not None and saved.tier == STORAGE else None,
        ending.stopped_at if ending is not None else None,
    )
    return max((step for step in known if step is not None), default=None)


def has_newer_checkpoint(cause: Cause, status: Status) -> bool:
    """Whether an attempt has written a checkpoint that is newer than those of earlier attempts.

    Args:
        cause: why the attempt ends.
        status: the status of the attempt.
    """
    newest = newest_checkpoint(cause, status)
    before = max((one.checkpoint for one in status.ends if one.checkpoint is not None), default=-1)
    return newest is not None and newest > before
