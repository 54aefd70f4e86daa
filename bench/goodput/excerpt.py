"""What docs/fault-tolerance.md shows of the results: the table of goodputs, and the picture."""

from collections.abc import Sequence
from pathlib import Path

PAGE = "fault-tolerance.md"
BEGIN = "<!-- goodput: written by `python -m bench.goodput` -->\n"
END = "<!-- goodput: end -->\n"


def put(folder: Path, lines: Sequence[str]) -> None:
    """Replace what is between the marks of the page; do nothing if the folder has no such page.

    Args:
        folder: the folder of the page.
        lines: what to show.

    Raises:
        ValueError: the page does not have each mark once, in this order.
    """
    page = folder / PAGE
    if page.exists():
        text = replaced(page.read_text(encoding="utf-8"), "\n".join(lines))
        page.write_text(text, encoding="utf-8")


def replaced(text: str, inner: str) -> str:
    r"""Return a text with something else between its marks.

    >>> replaced(f"a\n{BEGIN}old\n{END}b\n", "new") == f"a\n{BEGIN}\nnew\n\n{END}b\n"
    True

    Raises:
        ValueError: it does not have each mark once, in this order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in head + tail:
        raise ValueError(f"{PAGE} must have one line {BEGIN!r}, and one line {END!r} behind it")
    return f"{head}{BEGIN}\n{inner}\n\n{END}{tail}"
