"""Right where Accelerate 1.15 is wrong: the same programs, run under both."""

import functools
import json
import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from runtime.config.availability import is_present
from tests.distributed.lives import Row
from tests.distributed.right import ROWS
from tests.distributed.world import ROOT, SCRIPT, forked

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]


@functools.cache
def found(library: str) -> dict[str, Any]:
    """What each row's last life found; one run for all tests."""
    with NamedTemporaryFile() as file:
        argv = ["-m", "tests.distributed.lives", library, file.name]
        (done,) = forked((argv, os.environ | SCRIPT))
        assert done.code == 0, done.err[-3000:]
        sys.stderr.write(done.err)  # what pytest shows beside a row that fails
        answers: dict[str, Any] = json.loads(Path(file.name).read_text())
        return answers


def case(row: Row) -> Any:
    """A row; one whose package is missing here is skipped."""
    is_missing = row.needs is not None and not is_present(row.needs)
    skip = pytest.mark.skipif(is_missing, reason=f"{row.needs} is not installed")
    return pytest.param(row, id=row.case, marks=skip)


@pytest.mark.parametrize("row", list(map(case, ROWS)))
def test_right_here(row: Row) -> None:
    assert found("runtime")[row.case] == row.right


@pytest.mark.parametrize("row", list(map(case, ROWS)))
def test_wrong_there(row: Row) -> None:
    """Else there is nothing to be better at, and the row goes."""
    assert found("accelerate")[row.case] == row.wrong != row.right


def test_the_page_about_migration_shows_this_table() -> None:
    page = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    table = [f"| {row.case} | {row.accelerate} | {row.here} |" for row in ROWS]
    assert "\n".join(["| --- | --- | --- |", *table, ""]) in page
