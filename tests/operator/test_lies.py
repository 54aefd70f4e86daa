"""Whatever a pod tells, however large or old, its job is planned and its status stored."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.pod import read_pod
from acceleratedjob.observe.progress import NotProgressError, read_progress
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from tests.operator.builders import NOW, pod, spec

HUGE = 10**400  # a whole number that no float holds, and that JSON can contain
NUMBERS = (0, -1, 5e-324, 1e-300, 1e300, 2**53 - 1, 10**15, HUGE, -HUGE)
TIMES = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
TOLD: dict[str, Any] = {
    "attempt": 0,
    "life": 0,
    "epoch": 1,
    "epochs": 2,
    "firstStep": 0,
    "step": 7,
    "totalSteps": 9,
    "etaSeconds": 3,
    "samplesPerSecond": 3,
    "stepSeconds": 1,
    "loss": 1,
    "checkpoint.step": 7,
    "checkpoint.seconds": 3,
    "checkpoint.time": "2026-01-01T11:59:00Z",
    "verdict.since": "2026-01-01T11:59:00Z",
    "goodput.productiveSeconds": 3,
    "goodput.lost.redone": 3,
}
CADENCES: tuple[Manifest, ...] = ({}, {"everySteps": 2**31 - 1}, {"everySeconds": 2**31 - 1})


def up(asked: JobSpec) -> Status:
    """The status of a job whose two replicas are up."""
    pods = (pod(0), pod(1))
    return progress(asked, Observed(status=Status(attempt=0, size=2), pods=pods), NOW)


def answer(told: Manifest) -> Manifest:
    """The answer of a job with some values."""
    parts: dict[str, dict[str, Any]] = {"checkpoint": {}, "verdict": {}, "goodput": {"lost": {}}}
    flat = {}
    for name, value in told.items():
        first, _, rest = name.partition(".")
        if rest.startswith("lost."):
            parts["goodput"]["lost"][rest.removeprefix("lost.")] = value
        elif rest:
            parts[first][rest] = value
        else:
            flat[name] = value
    saved = {"tier": "storage"} | parts["checkpoint"]
    hang = {"kind": "hang", "text": "rank 1 hangs"} | parts["verdict"]
    return flat | {"checkpoints": [saved], "verdicts": [hang], "goodput": parts["goodput"]}


def lies() -> Iterator[Manifest]:
    """Answers of which one or two values are at the ends of what can be said."""
    names = [
        [(name, one) for one in (TIMES if name.endswith(("time", "since")) else NUMBERS)]
        for name in TOLD
    ]
    for one, other in itertools.combinations_with_replacement(names, 2):
        for (a, x), (b, y) in itertools.product(one, other):
            yield answer(TOLD | {a: x, b: y})


def times(told: Any) -> Iterator[str]:
    """All times in a status."""
    if isinstance(told, dict):
        for name, value in told.items():
            is_time = name == "since" or name.lower().endswith("time")
            yield from [value] if is_time and isinstance(value, str) else times(value)
    elif isinstance(told, list):
        for one in told:
            yield from times(one)


def is_storable(status: Status) -> bool:
    """Whether the API server takes a status, and this operator reads the same again."""
    manifest = json.loads(json.dumps(status.to_manifest(), allow_nan=False))
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    assert all(map(form.fullmatch, times(manifest)))
    return Status.from_manifest({"status": manifest}) == status


def test_whatever_is_answered_is_refused_or_planned_and_stored() -> None:
    read = 0
    specs = [spec(checkpoint={"uri": "s3://b"} | one, stallDeadlineSeconds=60) for one in CADENCES]
    running = [Observed(status=up(one), pods=(pod(0), pod(1))) for one in specs]
    for told, (asked, seen) in zip(lies(), itertools.cycle(zip(specs, running, strict=True))):
        try:
            progress = read_progress(json.dumps(told).encode())
        except NotProgressError:
            continue
        read += 1
        made = plan(asked, replace(seen, told=Told(progress=progress)), NOW)
        assert made.status.attempt == 0
        assert is_storable(made.status)
    assert read > 1000


WORDS: tuple[Manifest, ...] = (
    *({"exception": "E", "rank": 0, "hang": {"rank": 0, "since": one}} for one in TIMES),
    {"exception": "E", "hang": {"rank": 1, "since": "0001-01-01T00:00:00+23:59"}},
    {"exception": "E", "hang": {"rank": 1, "since": "9999-12-31T23:59:59.999999-23:59"}},
    {"progress": {"attempt": 0, "step": 7, "loss": -HUGE}},
    {"stopped": {"step": HUGE}},
    {"exception": "E", "rank": -HUGE, "step": HUGE},
)


@pytest.mark.parametrize("words", WORDS, ids=lambda words: json.dumps(words)[:60])
@pytest.mark.parametrize("code", [0, 1, 143])
def test_whatever_a_process_leaves_behind_is_planned_and_stored(words: Manifest, code: int) -> None:
    ended = {"exitCode": code, "message": json.dumps(words), "finishedAt": "2026-01-01T11:59:59Z"}
    manifest = {
        "metadata": {"name": "digits-0-0", "uid": "u"},
        "spec": {"nodeName": "n0", "containers": [{"name": "trainer"}]},
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}],
        },
    }
    found = read_pod(manifest)
    assert found is not None
    made = plan(spec(), Observed(status=up(spec()), pods=(found, pod(1))), NOW)
    assert is_storable(made.status)
    is_done = code == 0 and "stopped" not in words  # who says that he has stopped is not done
    assert len(made.status.failures) == (not is_done)
