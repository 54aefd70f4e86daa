"""Reads the head of an HTTP request: incremental, strict and bounded.

The port also carries the lines of the ranks, which are JSON objects: `looks_like_http` tells them
apart by the first byte.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 8 * 1024  # bytes, with the empty line at the end
MAX_LINE: Final = 2 * 1024  # bytes of the request line
_END: Final = b"\r\n\r\n"
_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]+) HTTP/(\d)\.(\d)")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")


class BadRequest(Exception):
    """What was received is no request that this server understands.

    Attributes:
        status: the status to respond with.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    Attributes:
        method: the method, in capitals.
        target: the path with the query, as it was sent; it begins with a slash.
        fields: the header fields by their names in lower case.
        rest: what was received behind the head.
    """

    method: str
    target: str
    fields: Mapping[str, str] = field(default_factory=dict)
    rest: bytes = b""


def looks_like_http(data: bytes) -> bool:
    """Whether the first bytes of a connection are those of an HTTP request.

    >>> looks_like_http(b"GET /"), looks_like_http(b'{"hello":'), looks_like_http(b"")
    (True, False, False)
    """
    return data[:1].isalpha()


class RequestReader:
    """Collects bytes until the head of one request is complete; further requests are not read."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Request | None:
        """Take bytes, and return the request when its head is complete.

        Raises:
            BadRequest: the head is malformed or too large; the connection is of no more use.
        """
        before = len(self._data)
        self._data += data[: MAX_HEAD + 1]
        end = self._data.find(_END, max(0, before - len(_END)))
        line_end = self._data.find(b"\r\n", 0, MAX_LINE)
        if line_end < 0 and len(self._data) > MAX_LINE:
            sentence = f"the request line must have at most {MAX_LINE} bytes"
            raise BadRequest(HTTPStatus.REQUEST_URI_TOO_LONG, sentence)
        if not 0 <= end <= MAX_HEAD - len(_END):
            self._check_size()
            return None
        return _parsed(bytes(self._data[:end]), data[end + len(_END) - before :])

    def _check_size(self) -> None:
        if len(self._data) >= MAX_HEAD:
            sentence = f"the head of a request must have at most {MAX_HEAD} bytes"
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, sentence)


def _parsed(head: bytes, rest: bytes) -> Request:
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the request line is malformed")
    method, target, major, minor = (part.decode("ascii") for part in line.groups())
    if major != "1":
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "the version must be HTTP/1.x")
    if not target.startswith("/"):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the target must begin with a slash")
    fields = _fields(lines)
    if minor != "0" and "host" not in fields:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the field Host is missing")
    return Request(method, target, fields, rest)


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header field is malformed")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1").strip(" \t")
        if name in fields and name in ("host", "content-length"):
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"the field {name} is there twice")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
