"""How the messages of the control channel are written, and read.

Decoding is strict: anything but exactly the fields of a known message is a `ProtocolError`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from runtime.control.agreement import messages as agreement
from runtime.control.beat import Beat, Phase
from runtime.control.lines import LARGEST, ProtocolError
from runtime.control.messages import (
    MAX_RANKS,
    MAX_SENTENCE,
    MAX_TEXT,
    Alive,
    Attend,
    Begin,
    Checkpointed,
    Clear,
    Cleared,
    Collect,
    Compare,
    Compared,
    Digested,
    Fact,
    Fell,
    GiveUp,
    Hello,
    Judged,
    Look,
    Message,
    Plan,
    Retire,
    Seen,
    Whereabouts,
)
from runtime.control.place import Place
from runtime.control.progress.snapshot import Tier
from runtime.control.verdicts import summary
from runtime.control.verdicts.report import Report, read
from runtime.control.verdicts.summary import Summary

_DIGEST = re.compile(r"([0-9a-f]{16})?")
_METRICS = 64  # numbers of a beat
_SIGNALS, _CODES = -64, 255  # the range of the status of a process
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
