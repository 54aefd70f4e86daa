"""The line at the bottom of `acceleratedjob run`, whatever a job answers."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api.training import Checkpoint
from acceleratedjob.commands.job_line import job_line
from acceleratedjob.commands.status_line import with_progress
from acceleratedjob.observe.progress import NotProgressError, Progress, read_progress
from tests.operator.builders import job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOLD: dict[str, Any] = {
    "epoch": 3,
    "epochs": 12,
    "step": 540,
    "totalSteps": 1080,
    "percent": 50,
    "etaSeconds": 12.4,
    "samplesPerSecond": 1240.4,
    "loss": 0.2134,
    "checkpoint": {"step": 500, "tier": "storage", "time": "2026-01-02T03:04:03Z", "seconds": 1.0},
}
KNOWN = Progress(
    epoch=3,
    epochs=12,
    step=540,
    total_steps=1080,
    percent=50,
    eta_seconds=12.4,
    samples_per_second=1240.4,
    loss=0.2134,
    checkpoint=Checkpoint(step=500, tier="storage", time="2026-01-02T03:04:03Z"),
)
WHOLE = (
    "digits  Running  [##########..........]  50%  epoch 3/12  step 540/1080  ETA 12s  "
    "1240 samples/s  loss 0.213  checkpoint 2s ago  restarts 0"
)


def shown(progress: Progress, width: int = 200) -> str:
    made = job() | {"status": {"phase": "Running", "progress": {"step": 1, "loss": "0.5"}}}
    made["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    return job_line(with_progress(made, progress), NOW, width=width)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        pytest.param(200, WHOLE, id="a wide terminal: all of it"),
        pytest.param(len(WHOLE), WHOLE, id="as wide as it: all of it"),
        pytest.param(
            len(WHOLE) - 1, WHOLE.replace("  [##########..........]", ""), id="first, no bar"
        ),
        pytest.param(
            69,
            "digits  Running  50%  step 540/1080  ETA 12s  loss 0.213",
            id="69: without samples, epoch, restarts, checkpoint",
        ),
        pytest.param(35, "digits  Running  50%  step 540/1080", id="35: without ETA and loss"),
        pytest.param(20, "digits  Running  50%", id="20: name, phase and percent"),
        pytest.param(19, "digits  50%", id="19: without the phase"),
        pytest.param(10, "digits  5…", id="10: what fits"),
        pytest.param(0, "", id="0: nothing"),
    ],
)
def test_the_line_fits_into(width: int, line: str) -> None:
    assert shown(KNOWN, width) == line


@pytest.mark.parametrize(
    ("progress", "part"),
    [
        pytest.param(Progress(step=7), "step 7", id="a step alone"),
        pytest.param(Progress(loss=float("nan")), "loss nan", id="a loss that is none"),
        pytest.param(Progress(eta_seconds=90061), "ETA 1d1h", id="a day"),
        pytest.param(Progress(samples_per_second=0.25), "0.25 samples/s", id="slow"),
        pytest.param(
            Progress(checkpoint=Checkpoint(step=1, tier="memory", time="2026-01-11T03:04:05Z")),
            "checkpoint 0s ago",
            id="a checkpoint of a clock that is ahead",
        ),
    ],
)
def test_what_is_not_known_is_not_shown_and_the_answer_counts(
    progress: Progress, part: str
) -> None:
    assert shown(progress) == f"digits  Running  {part}  restarts 0"


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(TOLD, json_values)), st.integers(0, 120))
def test_whatever_a_job_answers_the_line_is_one_that_fits(told: Any, width: int) -> None:
    with contextlib.suppress(NotProgressError):
        line = shown(read_progress(json.dumps(told).encode()), width)
        assert line.isprintable()
        assert line.rstrip("…").isascii()
        assert len(line) <= width
