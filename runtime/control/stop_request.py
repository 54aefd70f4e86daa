"""The operator's request to stop: `POST /stop`, before it deletes the pods of an attempt.

The port also carries the lines of the ranks and the pages for people, so that what is sent here is
not trusted: it must name the job and the attempt, which the operator and the ranks know, and a page
in a browser cannot send it without being asked (the type of the content).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from runtime.control.lines import LARGEST, strict_json
from runtime.control.progress.request import BadRequest

PATH: Final = "/stop"
MAX_BODY: Final = 1024  # bytes
MAX_SECONDS: Final = 7 * 24 * 3600.0
_TYPE: Final = "application/json"
_MAX_UID: Final = 128  # characters
_KEYS: Final = {"uid", "attempt", "secondsLeft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """Which processes are to stop, and how long they have.

    Attributes:
        uid: the UID of the job.
        attempt: the number of the attempt.
        seconds_left: the time until the first of them is killed, in seconds.
    """

    uid: str
    attempt: int
    seconds_left: float


def length_of(fields: Mapping[str, str]) -> int:
    """Return the number of bytes of the body of a request.

    Args:
        fields: the header fields by their names in lower case.

    Raises:
        BadRequest: the length is missing or too large, or the content has another type.
    """
    given = fields.get("content-length", "")
    if not (given.isascii() and given.isdecimal()):
        raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "the field Content-Length must be a number")
    if len(given) > len(str(MAX_BODY)) or int(given) > MAX_BODY:
        sentence = f"the body must have at most {MAX_BODY} bytes"
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
    if fields.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content must be {_TYPE}")
    return int(given)


def read_stop(body: bytes) -> StopRequest:
    """Return the request in a body.

    Raises:
        BadRequest: the body is not exactly such a request.
    """
    try:
        found = strict_json(body)
    except ValueError as error:
        raise _bad(f"the body must be JSON: {error}") from error
    if not isinstance(found, dict) or found.keys() != _KEYS:
        raise _bad(f"the body must have exactly {', '.join(sorted(_KEYS))}")
    return StopRequest(
        uid=_uid(found["uid"]),
        attempt=_attempt(found["attempt"]),
        seconds_left=_seconds(found["secondsLeft"]),
    )


def _uid(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_UID:
        raise _bad(f"uid must be a string of 1 to {_MAX_UID} characters")
    return value


def _attempt(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise _bad("attempt must be a whole number, at least 0")
    return value


def _seconds(value: Any) -> float:
    is_number = type(value) in (int, float)
    if not is_number or not math.isfinite(value) or not 0 <= value <= MAX_SECONDS:
        raise _bad(f"secondsLeft must be a number from 0 to {MAX_SECONDS:.0f}")
    return float(value)


def _bad(sentence: str) -> BadRequest:
    return BadRequest(HTTPStatus.BAD_REQUEST, sentence)
