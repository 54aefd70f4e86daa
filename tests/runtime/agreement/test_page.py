"""docs/agreement.md names every message, state and timer, and every flaw."""

from pathlib import Path

import pytest

from runtime.control.agreement.coordinator import Stage
from runtime.control.agreement.member import Standing
from runtime.control.agreement.messages import KINDS
from runtime.control.agreement.timers import Wait
from tests.runtime.agreement.flaws import FLAWS

PAGE = (Path(__file__).parents[3] / "docs/agreement.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("word", [*Stage, *Standing, *Wait])
def test_a_state_or_timer_has_a_row(word: str) -> None:
    assert any(word in row.split(", ") for row in ROWS)


def test_the_messages_are_those_that_there_are() -> None:
    named = {row.split()[0].strip("`") for row in ROWS if row.startswith("`") and "." not in row}
    assert named == set(KINDS)


def test_every_flaw_has_a_row() -> None:
    named = {row for row in ROWS if row[:1] == "F"}
    assert named == {flaw.says.split()[0].rstrip("bc") for flaw in FLAWS if flaw.says[0] == "F"}
