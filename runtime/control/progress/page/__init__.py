"""The page at `/`: one document without any external resource, which refreshes itself.

The document is written here, whole, with all numbers. Its script replaces the numbers by those of a
newer one, so that it draws nothing itself and the page needs no script for the first picture. The
policy allows the script and the style of the document by their hashes, and nothing else.
"""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files
from typing import Final

from runtime.control.progress.page.sections import sections
from runtime.control.progress.snapshot import Snapshot

_DOCUMENT: Final = files(__name__).joinpath("document.html").read_text(encoding="utf-8")


def _hash(tag: str) -> str:
    """Return the hash of the content of the document's only element of a kind."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", _DOCUMENT, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")


POLICY: Final = (
    f"default-src 'none'; script-src '{_hash('script')}'; style-src '{_hash('style')}'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def to_html(snapshot: Snapshot) -> bytes:
    """Return the page."""
    percent = "" if snapshot.percent is None else f"{snapshot.percent}% "
    title = escape(f"{percent}{snapshot.name or 'Training'}")
    head, middle, tail = re.split("<!-- (?:title|main) -->", _DOCUMENT)
    return "".join((head, title, middle, *sections(snapshot), tail)).encode()
