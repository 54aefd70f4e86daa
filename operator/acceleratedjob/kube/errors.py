"""Maps error responses of an API server, by status code and reason, to the operator's errors."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from acceleratedjob.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    Refused,
    Unavailable,
)

MAX_MESSAGE = 8192  # characters; a message may contain values of the job, of any length
_INVALID = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
# Messages of a 403 that a retry may avoid, once a quota or a permission has changed; any other 403
# is the decision of a policy about the object. Sources: apiserver admission plugins (resourcequota,
# serviceaccount, priority, runtimeclass, gc, namespace/lifecycle), RBAC's "User ... cannot ...".
_MAY_PASS_LATER = re.compile(
    r"exceeded quota|failed quota|status unknown for quota|error looking up service account"
    r"|no PriorityClass with name|RuntimeClass \"[^\"]*\" not found"
    r"|you can't set finalizers on|is being terminated|User \".*\" cannot|insufficient quota"
)

# Messages of a server error (500) about an object that is too large for etcd.
_TOO_LARGE = re.compile(r"etcdserver: request is too large|trying to send message larger than max")

_UNREAD = re.compile(r"Go struct field \w+\.(\S+) of type|unknown field \"([^\"]+)\"")


def error_from(status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """Return the error for a response with a status code of 400 or above."""
    told = _status(body)
    said = str(told.get("message") or body[:200].decode(errors="replace"))[:MAX_MESSAGE]
    message = f"{said} ({status})"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return NotFound(message)
    if status == HTTPStatus.CONFLICT:
        kind = AlreadyExists if told.get("reason") == "AlreadyExists" else Conflict
        return kind(message)
    if status == HTTPStatus.FORBIDDEN:
        return Refused(message, final=not _MAY_PASS_LATER.search(message))
    if status in _INVALID or _TOO_LARGE.search(message):
        return Refused(message, final=True, field=_field(told, message))
    return Unavailable(message, retry_after=_seconds(headers.get("Retry-After", "")))


def _field(told: Mapping[str, Any], message: str) -> str:
    """Return the first invalid field, or the field that cannot be decoded; empty if unknown."""
    causes = (told.get("details") or {}).get("causes") or [{}]
    unread = _UNREAD.search(message)
    return causes[0].get("field") or (unread[1] or unread[2] if unread else "")


def _status(body: bytes) -> dict[str, Any]:
    """Return the Status object of a response; empty for other content, such as a proxy's page."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0
