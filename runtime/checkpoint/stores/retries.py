"""Tries an operation of an object store again, if its error may be temporary."""

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from runtime.errors import CheckpointError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

_LONGEST = 500  # characters of an error in a message
_LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# The first that fits says what to do; errors of these types are not temporary.
_ADVICE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (
        PermissionError,
        "allow the credentials of this process to list, read, write and delete objects there",
    ),
    (FileNotFoundError, "create the bucket, or correct the URL"),
    ((ValueError, TypeError, NotImplementedError, ImportError), "correct the URL or its options"),
)
_FULL = "make room on the local disk, or pass another local directory"
_UNREACHABLE = (
    "see whether the store can be reached from this machine and whether the credentials are valid"
)


@dataclass(frozen=True)
class Retries:
    """How often an operation is tried, and how long to wait in between.

    Attributes:
        attempts: the number of tries, 1 or more.
        pause: the seconds before the second try; they double with each further one.
        sleep: the function that waits.

    Raises:
        ValueError: a number is out of range.
    """

    attempts: int = 5
    pause: float = 0.5
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.attempts < 1 or self.pause < 0:
            sentence = f"there must be 1 attempt or more and no negative pause, got {self}"
            raise ValueError(sentence)

    def run(self, action: str, operation: Callable[[], Result]) -> Result:
        """Return the result of an operation that may be repeated.

        Args:
            action: what it does, with the URL of the object, as in `write s3://a/b`.
            operation: the operation.

        Raises:
            FileNotFoundError: there is no such object.
            CheckpointError: the operation has failed for good.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return operation()
            except Exception as error:
                if isinstance(error, FileNotFoundError):
                    raise
                if attempt == self.attempts or not is_temporary(error):
                    raise failed(action, error, attempt) from error
                logger.warning("trying again to %s: %s", action, _short(error))
                self.sleep(self.pause * 2 ** (attempt - 1))
        raise AssertionError  # the last attempt returns or raises


def is_temporary(error: Exception) -> bool:
    """Whether an operation may succeed later; errors of unknown types count as temporary.

    >>> is_temporary(TimeoutError()), is_temporary(PermissionError())
    (True, False)
    """
    if isinstance(error, OSError) and error.errno in _LOCAL:
        return False
    return not any(isinstance(error, kind) for kind, _ in _ADVICE)


def failed(action: str, error: Exception, attempts: int = 1) -> CheckpointError:
    """Return the error for an operation that has failed for good.

    Args:
        action: what it does, with the URL of the object.
        error: the last error.
        attempts: the number of tries.
    """
    tries = f"tried {attempts} times" if attempts > 1 else "tried once"
    known = (advice for kind, advice in _ADVICE if isinstance(error, kind))
    is_full = isinstance(error, OSError) and error.errno in _LOCAL
    advice = _FULL if is_full else next(known, _UNREACHABLE)
    return CheckpointError(f"cannot {action} ({tries}): {_short(error)}; {advice}")


def _short(error: Exception) -> str:
    """Return the type and the first line of an error, which may quote a whole response."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:_LONGEST]
