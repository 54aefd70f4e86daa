import json
import logging
import sys
from typing import Any

import pytest

from acceleratedjob.manager.logformat import JsonFormatter, TextFormatter


def record(level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("reconciler", level, "x.py", 1, "phase=%s", ("Running",), None)
    made.created, made.msecs = 1767323045.25, 250
    made.__dict__ |= extra
    return made


@pytest.mark.parametrize(
    ("extra", "tail"),
    [
        pytest.param({}, {}, id="about no job"),
        pytest.param(
            {"namespace": "red", "job": "digits", "attempt": 0},
            {"namespace": "red", "job": "digits", "attempt": 0},
            id="about an attempt, the first one too",
        ),
        pytest.param(
            {"namespace": "red", "job": "digits", "attempt": None},
            {"namespace": "red", "job": "digits"},
            id="about a job of no attempt yet",
        ),
        pytest.param(
            {"k8s_ref": {"namespace": "red", "name": "digits", "uid": "1"}},
            {"namespace": "red", "job": "digits"},
            id="kopf's word about a job",
        ),
    ],
)
def test_a_line_says_when_what_and_about_which_job(
    extra: dict[str, Any], tail: dict[str, Any]
) -> None:
    assert json.loads(JsonFormatter().format(record(**extra))) == {
        "time": "2026-01-02T03:04:05.250Z",
        "level": "info",
        "logger": "reconciler",
        "message": "phase=Running",
        **tail,
    }
    words = "".join(f" {name}={value}" for name, value in tail.items())
    assert TextFormatter().format(record(**extra)).endswith(f"INFO     phase=Running{words}")


def test_a_traceback_stays_in_its_line() -> None:
    happened = record()
    try:
        int("two\nlines")
    except ValueError:
        happened = record(logging.ERROR, exc_info=sys.exc_info())
    line = JsonFormatter().format(happened)
    assert "\n" not in line
    told = json.loads(line)
    assert told["level"] == "error"
    assert told["exception"].endswith(r"with base 10: 'two\nlines'")
