"""Answers the requests for `/progress`, `/metrics` and `/`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from runtime.control.progress import metrics, page
from runtime.control.progress.encoding import to_json
from runtime.control.progress.snapshot import Snapshot

Fields = tuple[tuple[str, str], ...]
Render = Callable[[], bytes]

_METHODS: Final = ("GET", "HEAD")
_PLAIN: Final = "text/plain; charset=utf-8"
_ALWAYS: Final[Fields] = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is shown at a path.

    Attributes:
        render: returns the content; called for each request.
        media_type: the type of the content.
        fields: further header fields.
    """

    render: Render
    media_type: str
    fields: Fields = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A response.

    Attributes:
        status: the status.
        fields: the header fields, with the length of the content.
        body: the content; empty for HEAD.
    """

    status: HTTPStatus
    fields: Fields
    body: bytes

    def encode(self) -> bytes:
        """Return the bytes to send, after which the connection is closed."""
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body


def pages(snapshot: Callable[[], Snapshot]) -> dict[str, Page]:
    """Return the pages by their paths.

    Args:
        snapshot: returns what is known now.
    """
    html = (("Content-Security-Policy", page.POLICY), ("Referrer-Policy", "no-referrer"))
    return {
        "/progress": Page(render=lambda: to_json(snapshot()), media_type="application/json"),
        "/metrics": Page(
            render=lambda: metrics.to_prometheus(snapshot()), media_type=metrics.CONTENT_TYPE
        ),
        "/": Page(
            render=lambda: page.to_html(snapshot()),
            media_type="text/html; charset=utf-8",
            fields=html,
        ),
    }


def respond(method: str, target: str, pages: Mapping[str, Page]) -> Response:
    """Return the response to a request.

    Args:
        method: the method.
        target: the path; a query is ignored.
        pages: the pages by their paths.
    """
    found = _found(method, pages.get(target.partition("?")[0]), pages)
    return replace(found, body=b"") if method == "HEAD" else found


def refuse(status: HTTPStatus, sentence: str, fields: Fields = ()) -> Response:
    """Return a response that is a sentence, such as why there is no content."""
    text = f"{sentence}\n".encode()
    return _response(status, Page(render=lambda: text, media_type=_PLAIN, fields=fields))


def _found(method: str, page: Page | None, pages: Mapping[str, Page]) -> Response:
    if page is None:
        return refuse(HTTPStatus.NOT_FOUND, f"there are only {', '.join(pages)}")
    if method not in _METHODS:
        allowed = ", ".join(_METHODS)
        sentence = f"the method must be one of {allowed}"
        return refuse(HTTPStatus.METHOD_NOT_ALLOWED, sentence, (("Allow", allowed),))
    return _response(HTTPStatus.OK, page)


def _response(status: HTTPStatus, page: Page) -> Response:
    body = page.render()
    kind = (("Content-Type", page.media_type), ("Content-Length", str(len(body))))
    return Response(status, kind + page.fields + _ALWAYS, body)
