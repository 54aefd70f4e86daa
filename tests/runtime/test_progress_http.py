"""The port of the ranks also answers browsers, Prometheus and the operator, and nobody else."""

from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.control.progress.request import (
    MAX_HEAD,
    MAX_LINE,
    BadRequest,
    Request,
    RequestReader,
    looks_like_http,
)
from runtime.control.progress.respond import Page, Response, pages, respond
from runtime.control.progress.snapshot import Snapshot

GET = b"GET /progress HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n"


def read(data: bytes, cut: int = 1) -> Request | None:
    """What a reader makes of bytes that come in pieces."""
    reader = RequestReader()
    for begin in range(0, len(data), cut):
        found = reader.feed(data[begin : begin + cut])
        if found is not None:
            rest = found.rest + data[begin + cut :]
            return Request(found.method, found.target, found.fields, rest)
    return None


@pytest.mark.parametrize("cut", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "request_"),
    [
        pytest.param(GET, Request("GET", "/progress", {"host": "a"}), id="a request"),
        pytest.param(
            b"GET /?a=%20 HTTP/1.0\r\n\r\n",
            Request("GET", "/?a=%20"),
            id="an old one needs no host",
        ),
        pytest.param(
            b"POST /x HTTP/1.1\r\nHOST:a\r\nX-A: \t b c \r\nx-a: d\r\n\r\n{}",
            Request("POST", "/x", {"host": "a", "x-a": "b c, d"}, b"{}"),
            id="fields and what comes behind the head",
        ),
        pytest.param(GET[:-1], None, id="one that is not complete"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(
            HEAD + b"a: " + b"b" * (MAX_HEAD - len(HEAD) - 7) + b"\r\n\r\n",
            Request("HEAD", "/", {"host": "a", "a": "b" * (MAX_HEAD - len(HEAD) - 7)}),
            id="the longest head",
        ),
    ],
)
def test_a_request_is_read_in_any_pieces(data: bytes, request_: Request | None, cut: int) -> None:
    assert read(data, cut) == request_


@pytest.mark.parametrize("cut", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="another version"),
        pytest.param(b"GET /\r\n\r\n", 400, id="no version"),
        pytest.param(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a method in small letters"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="two spaces"),
        pytest.param(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="for a proxy"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="for the server"),
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a null in the target"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", 400, id="a folded field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, id="a space before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n", 400, id="a line feed in a field"),
        pytest.param(b"GET /" + b"a" * MAX_LINE, 414, id="a target without end"),
        pytest.param(HEAD + b"a: b\r\n" * 2000, 431, id="fields without end"),
        pytest.param(HEAD + b"a: " + b"b" * MAX_HEAD, 431, id="a field without end"),
        pytest.param(
            HEAD + b"a: " + b"b" * (MAX_HEAD - len(HEAD) - 6) + b"\r\n\r\n",
            431,
            id="a head of a byte too many",
        ),
    ],
)
def test_what_is_refused(data: bytes, status: int, cut: int) -> None:
    with pytest.raises(BadRequest) as refused:
        read(data, cut)
    assert refused.value.status == status


@given(st.lists(st.binary(max_size=9) | st.sampled_from([GET, b"\r\n", b"GET / HTTP/1.1"])))
@example([GET[:9], GET[9:]])
def test_no_bytes_are_read_differently_in_pieces_or_crash_a_reader(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found: list[object] = []
    for cut in (1, 3, len(data) + 1):
        try:
            found.append(read(data, cut))
        except BadRequest as refused:
            found.append(refused.status)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEAD + b"a" * (MAX_HEAD - len(HEAD)), id="as many bytes as may be, no end"),
        pytest.param(HEAD + b"a: b\r\n" * 2**18, id="a flood of fields"),
        pytest.param(b"A" * 2**20, id="a flood without a line"),
    ],
)
def test_a_reader_refuses_at_once_and_holds_no_more_than_it_may(data: bytes) -> None:
    reader = RequestReader()
    with pytest.raises(BadRequest):
        reader.feed(data)
    assert len(reader._data) <= MAX_HEAD + 1


@pytest.mark.parametrize(
    ("data", "is_http"),
    [
        pytest.param(b"GET / HTTP/1.1", True, id="a request"),
        pytest.param(b"g", True, id="what will be refused as a request"),
        pytest.param(b'{"hello": 1}\n', False, id="the line of a rank"),
        pytest.param(b"\x16\x03\x01", False, id="TLS"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_what_looks_like_http(data: bytes, is_http: bool) -> None:
    assert looks_like_http(data) is is_http


SHOWN = pages(lambda: Snapshot(name="digits"))


@pytest.mark.parametrize(
    ("method", "target", "status", "kind"),
    [
        pytest.param("GET", "/progress", 200, "application/json", id="progress"),
        pytest.param(
            "GET", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", id="metrics"
        ),
        pytest.param("GET", "/", 200, "text/html; charset=utf-8", id="the page"),
        pytest.param("GET", "/?now=1", 200, "text/html; charset=utf-8", id="a query is ignored"),
        pytest.param(
            "POST", "/progress", 405, "text/plain; charset=utf-8", id="nothing is changed"
        ),
        pytest.param("GET", "/progress/", 404, "text/plain; charset=utf-8", id="no other path"),
        pytest.param("GET", "/../etc/passwd", 404, "text/plain; charset=utf-8", id="no file"),
        pytest.param("DELETE", "/x", 404, "text/plain; charset=utf-8", id="no path, no method"),
    ],
)
def test_a_response(method: str, target: str, status: int, kind: str) -> None:
    found = respond(method, target, SHOWN)
    fields = dict(found.fields)
    assert (found.status, fields["Content-Type"]) == (status, kind)
    assert fields["Content-Length"] == str(len(found.body))
    assert (fields["Cache-Control"], fields["Connection"]) == ("no-store", "close")
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert ("Allow" in fields) == (status == HTTPStatus.METHOD_NOT_ALLOWED)
    assert len(fields) == len(found.fields)


@pytest.mark.parametrize("target", ["/", "/progress", "/metrics", "/x"])
def test_head_is_get_without_the_content(target: str) -> None:
    whole, head = respond("GET", target, SHOWN), respond("HEAD", target, SHOWN)
    assert (head.status, head.fields, head.body) == (whole.status, whole.fields, b"")
    assert whole.body


def test_what_is_sent() -> None:
    shown = {"/": Page(render=lambda: b"body", media_type="text/plain", fields=(("A", "b"),))}
    assert respond("GET", "/", shown).encode() == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nA: b\r\n"
        b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
        b"\r\nbody"
    )
    assert Response(HTTPStatus.NOT_FOUND, (), b"").encode() == b"HTTP/1.1 404 Not Found\r\n\r\n"
