"""What `acceleratedjob why` says of the time that a job has lost, and why."""

import dataclasses
from dataclasses import replace

import pytest

from acceleratedjob.api.status import Condition, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.api.training import Goodput, Lost
from acceleratedjob.commands.lost_time import CAUSES, lost_time
from acceleratedjob.commands.why import why
from tests.operator.builders import NOW, ago, stored

START = format_time(ago(1000))
HALF = Goodput(
    start_time=START,
    productive_seconds=500,
    lost=Lost(pending=120, starting=0.4, loading=30, redone=200, checkpoint=5, hang=None),
)
REST = "evaluations, slow steps, and what is not known"


def told(goodput: Goodput | None, *conditions: Condition) -> list[str]:
    return list(lost_time(Status(goodput=goodput, conditions=conditions), NOW))


@pytest.mark.parametrize(
    ("goodput", "lines"),
    [
        pytest.param(None, [], id="nothing is known"),
        pytest.param(Goodput(productive_seconds=3), [], id="not since when"),
        pytest.param(Goodput(start_time=START), [], id="nothing was lost yet, as far as is known"),
        pytest.param(
            HALF,
            [
                "  16m40s since the start, 50% of it in steps that count",
                "  3m20s (20%): steps that were executed again after restarts",
                f"  2m25s (14%): {REST}",
                "  2m (12%): waiting for pods",
                "  30s (3%): importing, and loading data and checkpoints",
                "  5s (0%): pauses for checkpoints",
            ],
            id="the largest cause comes first",
        ),
        pytest.param(
            Goodput(start_time=START, lost=Lost(pending=1000)),
            ["  16m40s since the start", "  16m40s (100%): waiting for pods"],
            id="before the first step",
        ),
        pytest.param(
            Goodput(start_time=START, productive_seconds=995, lost=Lost(hang=2)),
            ["  16m40s since the start, 100% of it in steps that count", "  2s (0%): hangs"],
            id="a rest of less than a hundredth is not shown",
        ),
        pytest.param(
            Goodput(start_time=START, productive_seconds=1100, lost=Lost(hang=200)),
            ["  16m40s since the start, 100% of it in steps that count", "  3m20s (20%): hangs"],
            id="clocks that differ: no share is above the whole",
        ),
        pytest.param(
            Goodput(start_time=format_time(ago(-5)), lost=Lost(hang=2)), [], id="a start to come"
        ),
    ],
)
def test_the_time_of_a_job(goodput: Goodput | None, lines: list[str]) -> None:
    assert told(goodput) == lines


@pytest.mark.parametrize("type_", ["Complete", "Failed", "Suspended"])
def test_the_time_ends_with_the_training(type_: str) -> None:
    over = Condition(
        type=type_, status="True", reason="X", last_transition_time=format_time(ago(400))
    )
    assert told(HALF, over)[0] == "  10m since the start, 83% of it in steps that count"
    assert told(HALF, replace(over, status="False"))[0].startswith("  16m40s")


def test_every_cause_has_words() -> None:
    assert list(CAUSES) == [one.name for one in dataclasses.fields(Lost)]


def test_why_has_a_section_about_the_time() -> None:
    lines = why(stored(Status(phase="Running", goodput=HALF)), NOW)
    assert lines[lines.index("Time") + 1].startswith("  16m40s since the start")
