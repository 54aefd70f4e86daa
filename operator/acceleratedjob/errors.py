"""The errors of the operator: one class for each reaction of a caller.

InvalidSpec          the manifest is invalid: report it; it is not retried
└── InvalidManifest  the same of a file: report its faults with their places
NotShippable         a function, script or folder cannot be sent to a cluster: change it
JobFailed            a job that was waited for has failed: its state says why
LosesTraining        a stop would lose the training: ask, or force it
ClusterError
├── NotFound         the object does not exist: success for a deletion
├── AlreadyExists    the name is taken: success if the job owns the object
├── Conflict         the object changed since it was read: read it again
├── Refused          the API server rejects the object: report it
│   └── Held         an object that is being deleted has the name: wait until it is gone
└── Unavailable      the API server cannot serve the request now: retry later
    ├── NotLeading   another operator may be the leader: write nothing
    └── NoAnswer     there was no response: log it once, and retry
        └── Unreachable  the configuration is unusable until a person changes it: exit
"""

import json
import reprlib
from collections.abc import Sequence
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 200
_REPR.maxlevel = 3


def shown(value: Any) -> str:
    """Return the repr of a value of a manifest, shortened for an error message.

    >>> shown("8Gi"), len(shown("9" * 10**6)), shown(False), shown(None)
    ("'8Gi'", 200, 'false', 'null')
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    try:
        return _REPR.repr(value)
    except ValueError:  # Python does not format integers of more than 4,300 digits
        return "a number of very many digits"


class InvalidSpec(ValueError):
    """The manifest of a job is invalid.

    Attributes:
        field: path of the invalid field, such as `spec.network.port`.
        message: what must hold and what was found, in one sentence.
        others: what else is wrong, in the order in which it was found.
    """

    def __init__(self, field: str, message: str, others: Sequence["InvalidSpec"] = ()) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.others = tuple(others)

    @property
    def all(self) -> tuple["InvalidSpec", ...]:
        """Everything that is wrong."""
        return (self, *self.others)


class InvalidManifest(InvalidSpec):
    """The file of a manifest is invalid.

    Attributes:
        faults: what is wrong, each as `FILE:LINE:COLUMN: FIELD: SENTENCE`.
    """

    def __init__(self, field: str, message: str, faults: Sequence[str]) -> None:
        super().__init__(field, message)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class NotShippable(ValueError):
    """What is to be trained cannot be sent to a cluster, or called there."""


class JobFailed(Exception):
    """A job that was waited for has failed.

    Attributes:
        name: the name of the job.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class LosesTraining(Exception):
    """A stop would lose the training so far, because the job keeps no checkpoints."""


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
            it); False if it may be accepted later (a quota, a missing service account).
        field: path of the invalid field of the object, if the API server names one.
    """

    def __init__(self, message: str, *, final: bool, field: str = "") -> None:
        super().__init__(message)
        self.final = final
        self.field = field


class Held(Refused):
    """The name is taken by an object that is being deleted.

    Attributes:
        holder: name of the object.
        grace_seconds: the grace period of its containers.
    """

    def __init__(self, message: str, *, holder: str, grace_seconds: int) -> None:
        super().__init__(message, final=False)
        self.holder = holder
        self.grace_seconds = grace_seconds


class Unavailable(ClusterError):
    """There was no response, or a response that asks to retry later (429, 5xx).

    Attributes:
        retry_after: seconds that the server asks to wait; 0 if it does not say.
    """

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotLeading(Unavailable):
    """This operator does not hold the lease, so the request was not sent."""


class NoAnswer(Unavailable):
    """There was no response from the API server.

    Attributes:
        silent: True if nothing was received, not even a refused connection.
    """

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class Unreachable(NoAnswer):
    """No cluster can be reached: the kubeconfig or a certificate is invalid."""

    def __init__(self, message: str) -> None:
        super().__init__(message, silent=True)


def is_answer(error: ClusterError) -> bool:
    """Whether an error is a response of the API server, which the author of the job must see."""
    return not isinstance(error, NotLeading | NoAnswer)
