"""The messages of the control channel beside those of the agreement, and how they are written.

Decoding is strict: anything but exactly the fields of a known message is a `ProtocolError`.
"""

import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from runtime.control.agreement import messages as agreement
from runtime.control.beat import Beat, Phase
from runtime.control.frames import printable
from runtime.control.lines import LARGEST, ProtocolError
from runtime.control.place import Place
from runtime.control.progress.snapshot import Tier
from runtime.control.verdicts import summary
from runtime.control.verdicts.report import Report, read
from runtime.control.verdicts.summary import Summary

MAX_TEXT = 256  # characters
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # of a process that was asked to stop
_DIGEST = re.compile(r"([0-9a-f]{16})?")
MAX_SENTENCE = 512  # characters
MAX_RANKS = 1024  # of a pod
_METRICS = 64  # numbers of a beat
_SIGNALS, _CODES = -64, 255  # the range of the status of a process


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
    """A pod begins no other life, because it was asked to stop; said by its launcher."""


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
_KINDS: Mapping[str, type[Fact]] = {
    "hello": Hello,
    "beat": Beat,
    "checkpointed": Checkpointed,
    "plan": Plan,
    "alive": Alive,
    "collect": Collect,
    "whereabouts": Whereabouts,
    "attend": Attend,
    "look": Look,
    "seen": Seen,
    "judged": Judged,
    "digested": Digested,
    "compare": Compare,
    "compared": Compared,
    "fell": Fell,
    "cleared": Cleared,
    "retire": Retire,
    "clear": Clear,
    "begin": Begin,
    "giveup": GiveUp,
}


def encode(message: Message) -> dict[str, Any]:
    """Return a message as JSON values."""
    if not isinstance(message, Fact):
        return agreement.encode(message)
    kind = type(message).__name__.lower()
    values = {one.name: getattr(message, one.name) for one in fields(message)}
    if isinstance(message, Beat):
        values["place"] = asdict(message.place)
        values["metrics"] = dict(list(message.metrics.items())[:_METRICS])
    if isinstance(message, Whereabouts | Seen):
        values["report"] = message.report.as_dict()
    if isinstance(message, Judged):
        values["hang"] = message.hang and message.hang.as_dict()
    return {"kind": kind} | values


def decode(found: Mapping[str, Any]) -> Message:
    """Return the message that JSON values stand for.

    Args:
        found: a JSON object, which is not trusted.

    Raises:
        ProtocolError: the object is not exactly what `encode` returns for some message.
    """
    made = _KINDS.get(str(found.get("kind")))
    try:
        return agreement.decode(dict(found)) if made is None else _fact(made, found)
    except (ValueError, TypeError) as error:
        raise ProtocolError(str(error)) from error


def _fact(made: type[Fact], found: Mapping[str, Any]) -> Fact:
    expected = {one.name for one in fields(made)}
    if found.keys() - {"kind"} != expected:
        sentence = f"{made.__name__} must have {sorted(expected)}, got {sorted(found)!r:.200}"
        raise ValueError(sentence)
    return made(**{name: _READERS[name](name, found[name]) for name in expected})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        sentence = f"{name} must be a text of at most {MAX_TEXT} characters, got {value!r:.100}"
        raise ValueError(sentence)
    return value


def _sentence(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_SENTENCE:
        sentence = f"{name} must be a text of at most {MAX_SENTENCE} characters, got {value!r:.100}"
        raise ValueError(sentence)
    return value


def _status(name: str, value: Any) -> int:
    if type(value) is not int or not _SIGNALS <= value <= _CODES:
        sentence = f"{name} must be a whole number in [{_SIGNALS}, {_CODES}], got {value!r:.100}"
        raise ValueError(sentence)
    return value


def _printable(name: str, value: Any) -> str:
    if not _text(name, value).isprintable():
        raise ValueError(f"{name} must be printable, got {value!r:.100}")
    return str(value)


def _digest(name: str, value: Any) -> str:
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise ValueError(f"{name} must be 16 hexadecimal digits or empty, got {value!r:.100}")
    return value


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        sentence = f"{name} must be a whole number of at least 0, got {value!r:.100}"
        raise ValueError(sentence)
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:  # nor NaN
        sentence = f"{name} must be a finite number, got {value!r:.100}"
        raise ValueError(sentence)
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, got {value!r:.100}")
    return value


def _optional(name: str, value: Any) -> float | None:
    return None if value is None else _number(name, value)


def _optional_count(name: str, value: Any) -> int | None:
    return None if value is None else _count(name, value)


def _phase(_name: str, value: Any) -> Phase:
    return Phase(value)


def _tier(_name: str, value: Any) -> Tier:
    return Tier(value)


def _place(_name: str, value: Any) -> Place:
    return agreement.read_place(value)


def _metrics(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > _METRICS:
        sentence = f"{name} must be a mapping of at most {_METRICS} numbers"
        raise ValueError(sentence)
    return {_text(name, key): _number(key, one) for key, one in value.items()}


def _report(_name: str, value: Any) -> Report:
    return read(value)


def _hang(_name: str, value: Any) -> Summary | None:
    return None if value is None else summary.read(value)


def _ranks(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANKS:
        raise ValueError(f"{name} must be a list of at most {MAX_RANKS} ranks")
    return tuple(_count(name, one) for one in value)


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "uid": _text,
    "attempt": _count,
    "life": _text,
    "rank": _count,
    "step": _count,
    "seconds": _number,
    "tier": _tier,
    "epochs": _optional_count,
    "steps_per_epoch": _optional_count,
    "first_step": _optional_count,
    "place": _place,
    "phase": _phase,
    "phase_seconds": _number,
    "ticks": _count,
    "samples": _count,
    "step_seconds": _optional,
    "own_seconds": _optional,
    "loss": _optional,
    "metrics": _metrics,
    "report": _report,
    "replica": _count,
    "node": _printable,
    "ranks": _ranks,
    "hang": _hang,
    "tensors": _count,
    "count": _count,
    "digest": _digest,
    "name": _printable,
    "last": _digest,
    "number": _count,
    "status": _status,
    "exception": _text,
    "message": _sentence,
    "at_step": _optional_count,
    "why_not": _text,
    "why": _printable,
    "at_once": _flag,
}
