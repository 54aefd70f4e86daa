"""docs/security.md says what nobody can do, and names the test that shows it."""

import ast
import re

import pytest

from tests.contract.documents import functions, read

PAGE = read("docs/security.md")
ROWS = [
    [cell.strip() for cell in row.strip("|").split(" | ")]
    for table in re.findall(r"^\| cannot \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    for row in table.splitlines()
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in ROWS])
def test_what_cannot_be_done_is_shown_by_tests_that_exist(row: list[str]) -> None:
    _, told = row
    tests = re.findall(r"`(tests/\S+\.py)::(\w+)`", told)
    assert tests
    for path, name in tests:
        assert name in functions(ast.parse(read(path)).body)


def test_every_section_has_its_cannots() -> None:
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) >= 6
    assert [one.split("\n")[0] for one in sections if "| cannot |" not in one] == []
