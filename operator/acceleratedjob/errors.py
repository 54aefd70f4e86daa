"""The errors of the operator: one class for each reaction of a caller.

InvalidSpec          the user's manifest is wrong: tell the user, once, for good
ClusterError
├── NotFound         the object is gone: for a delete that is success
├── AlreadyExists    the name is taken: success if the object is ours
├── Conflict         the object changed since it was read: look again
├── Refused          the API server will not have it: tell the user
│   └── Held         an object that is being deleted has the name: wait for it to go
└── Unavailable      the API server cannot do it now: try again later
    ├── NotLeading   another operator may be at work: this one writes nothing
    └── NoAnswer     nothing came back at all: whoever waits for it says so once
        └── Unreachable  nothing ever will, until a person changes something: end
"""

import reprlib
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 200
_REPR.maxlevel = 3


def shown(value: Any) -> str:
    """A value of a manifest for an error message, cut to a few characters.

    >>> shown("8Gi"), len(shown("9" * 10**6))
    ("'8Gi'", 200)
    """
    try:
        return _REPR.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of very many digits"


class InvalidSpec(ValueError):
    """The manifest of a job is invalid.

    Attributes:
        field: path of the field at fault, such as `spec.network.port`.
        message: what must hold and what was found, in one sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class ClusterError(Exception):
    """A request to the cluster failed."""


class NotFound(ClusterError):
    """The object does not exist, or has another uid."""


class AlreadyExists(ClusterError):
    """An object of that name exists."""


class Conflict(ClusterError):
    """The object has changed since it was read."""


class Refused(ClusterError):
    """The API server rejected the object.

    Attributes:
        final: True if the same object will never be accepted (it is invalid or a policy forbids
            it); False if it may be accepted later (a quota, a service account not made yet).
        field: path of the object's field at fault, if the API server names one.
    """

    def __init__(self, message: str, *, final: bool, field: str = "") -> None:
        super().__init__(message)
        self.final = final
        self.field = field


class Held(Refused):
    """The name is taken by an object that is being deleted.

    Attributes:
        holder: name of the object.
        grace_seconds: what its containers have to stop.
    """

    def __init__(self, message: str, *, holder: str, grace_seconds: int) -> None:
        super().__init__(message, final=False)
        self.holder = holder
        self.grace_seconds = grace_seconds


class Unavailable(ClusterError):
    """There was no response, or one that asks to retry later (429, 5xx).

    Attributes:
        retry_after: seconds that the server asked to wait; 0 if it did not say.
    """

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotLeading(Unavailable):
    """This operator does not hold the lease, so the request was not sent."""


class NoAnswer(Unavailable):
    """There was no response from the API server.

    Attributes:
        silent: True if nobody said anything that counts, not even a refusal to connect.
    """

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class Unreachable(NoAnswer):
    """The configuration cannot lead to a cluster: the kubeconfig or a certificate is invalid."""

    def __init__(self, message: str) -> None:
        super().__init__(message, silent=True)


def is_answer(error: ClusterError) -> bool:
    """Whether an error is a rejection by the API server, which the job's author has to know."""
    return not isinstance(error, NotLeading | NoAnswer)
