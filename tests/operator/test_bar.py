"""The line at the bottom of `acceleratedjob run`, whatever a job answers."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api.training import Checkpoint
from acceleratedjob.commands.bar import bar
from acceleratedjob.observe.progress import NotProgressError, Progress, read_progress

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
    "digits  epoch 3/12  step 540/1,080  50%  ETA 0:12  1,240 samples/s  loss 0.213  "
    "checkpoint at step 500 (2s ago)"
)


def shown(progress: Progress, width: int = 200, name: str = "digits") -> str:
    return bar(progress, name=name, width=width, now=NOW)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        pytest.param(200, WHOLE, id="a wide terminal: all of it"),
        pytest.param(len(WHOLE), WHOLE, id="as wide as it: all of it"),
        pytest.param(
            len(WHOLE) - 1,
            "digits  epoch 3/12  step 540/1,080  50%  ETA 0:12  1,240 samples/s  loss 0.213",
            id="one column less: without the checkpoint",
        ),
        pytest.param(
            61,
            "digits  epoch 3/12  step 540/1,080  50%  ETA 0:12  loss 0.213",
            id="61: without samples",
        ),
        pytest.param(43, "digits  step 540/1,080  50%  ETA 0:12", id="43: without epoch and loss"),
        pytest.param(30, "digits  step 540/1,080", id="30: the step"),
        pytest.param(10, "digits  st", id="10: what fits"),
        pytest.param(0, "", id="0: nothing"),
    ],
)
def test_the_bar_fits_into(width: int, line: str) -> None:
    assert shown(KNOWN, width) == line


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        pytest.param(Progress(step=7), "digits  step 7", id="a step alone"),
        pytest.param(Progress(loss=float("nan")), "digits  loss nan", id="a loss that is none"),
        pytest.param(Progress(eta_seconds=90061), "digits  ETA 25:01:01", id="a day"),
        pytest.param(Progress(samples_per_second=0.25), "digits  0.25 samples/s", id="slow"),
        pytest.param(
            Progress(checkpoint=Checkpoint(step=1, tier="memory", time="2026-01-11T03:04:05Z")),
            "digits  checkpoint at step 1 (0s ago)",
            id="a checkpoint of a clock that is ahead",
        ),
    ],
)
def test_what_is_not_known_is_not_shown(progress: Progress, line: str) -> None:
    assert shown(progress) == line


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(TOLD, json_values)), st.integers(0, 120))
def test_whatever_a_job_answers_the_bar_is_one_line_that_fits(told: Any, width: int) -> None:
    with contextlib.suppress(NotProgressError):
        line = shown(read_progress(json.dumps(told).encode()), width)
        assert line.isprintable()
        assert line.isascii()
        assert len(line) <= width
