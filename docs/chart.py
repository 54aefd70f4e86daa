"""The table of the chart's values, in its README: read from the comments of values.yaml."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from docs import tables

CHART = Path(__file__).parents[1] / "charts/acceleratedjob"
README = CHART / "README.md"
BEGIN = "<!-- written by `make docs` from values.yaml -->\n"
KEY = re.compile(r"^( *)(\w+):(.*)$")


def readme() -> str:
    """Return the README of the chart, with the table of what values.yaml says now."""
    head, _, _ = README.read_text(encoding="utf-8").partition(BEGIN)
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    rows = [
        (f"`{name}`", f"`{default}`" if default else "", said)
        for name, default, said in values(text)
    ]
    return f"{head}{BEGIN}\n{tables.table(('value', 'default', 'meaning'), rows)}\n"


def values(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the default as JSON and the comment of each value.

    A group of values that has a comment is yielded before them, without a default.

    Args:
        text: a file of values.
    """
    whole = yaml.safe_load(text)
    comment: list[str] = []
    path: list[tuple[int, str]] = []  # the indentation and the name of each level
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
            continue
        if key := KEY.match(line):
            path = [one for one in path if one[0] < len(key[1])] + [(len(key[1]), key[2])]
            names = [name for _, name in path]
            value = _value(whole, names)
            is_group = isinstance(value, dict) and not key[3].strip()
            if comment or not is_group:
                yield ".".join(names), "" if is_group else json.dumps(value), " ".join(comment)
        comment = []


def _value(whole: Any, names: list[str]) -> Any:
    for name in names:
        whole = whole[name]
    return whole
