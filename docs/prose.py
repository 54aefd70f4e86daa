"""Converts docstrings in Google's style to Markdown."""

import re
import textwrap
from collections.abc import Iterator

TITLES = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Raises": "Raises"}
_SECTION = re.compile(rf"^({'|'.join(TITLES)}):(.*)$")
_ITEM = re.compile(r"^(\*{0,2}[\w., ]+?): (.*)$")


def markdown(docstring: str, *, without: str = "") -> str:
    """Return a docstring's paragraphs, examples and sections as Markdown.

    Args:
        docstring: the docstring.
        without: the title of a section to leave out.
    """
    sections = (one for one in _sections(docstring) if not without or one[0] != without)
    return "\n\n".join(block for section in sections for block in _blocks(*section))


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join(docstring.split("\n\n", maxsplit=1)[0].split())


def arguments(docstring: str) -> dict[str, str]:
    """Return the description of each argument; one line may describe several arguments."""
    return _described(docstring, "Args")


def attributes(docstring: str) -> dict[str, str]:
    """Return the description of each attribute; one line may describe several attributes."""
    return _described(docstring, "Attributes")


def _described(docstring: str, wanted: str) -> dict[str, str]:
    found = (text for title, text in _sections(docstring) if title == wanted)
    pairs = [pair for text in found for pair in _items(_body(text))]
    return {name: said for names, said in pairs if names for name in names.split(", ")}


def _sections(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of each section; the title of the introduction is empty."""
    title, lines = "", list[str]()
    for line in docstring.splitlines():
        found = _SECTION.match(line)
        if found:
            yield title, "\n".join(lines)
            title, lines = found[1], [found[2].strip()]
        else:
            lines.append(line)
    yield title, "\n".join(lines)


def _blocks(title: str, text: str) -> Iterator[str]:
    text = _body(text) if title else text.strip()
    if not text:
        return
    if not title:
        yield from map(_paragraph, re.split(r"\n\s*\n", text))
        return
    items = list(_items(text))
    if len(items) == 1 and not items[0][0]:
        yield f"**{TITLES[title]}:** {items[0][1]}"
        return
    yield f"**{TITLES[title]}**"
    yield "\n".join(f"- `{name}`: {said}" if name else f"- {said}" for name, said in items)


def _body(text: str) -> str:
    """Return the text of a section; on the line of the title, items are separated by `; `."""
    first, _, rest = text.partition("\n")
    if first.strip():
        return re.sub(r"; (?=\w+: )", "\n", " ".join(text.split()))
    return textwrap.dedent(rest).strip()


def _paragraph(text: str) -> str:
    text = textwrap.dedent(text)
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    is_list = re.match(r"[-*] ", text)
    return text if is_list else " ".join(text.split())


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each item; the name of a plain sentence is empty."""
    gathered: list[str] = []
    for line in text.splitlines():
        if gathered and not line.startswith(" "):
            yield _item(gathered)
            gathered = []
        gathered.append(line.strip())
    if gathered:
        yield _item(gathered)


def _item(lines: list[str]) -> tuple[str, str]:
    text = " ".join(lines)
    found = _ITEM.match(text)
    return (found[1], found[2]) if found else ("", text)
