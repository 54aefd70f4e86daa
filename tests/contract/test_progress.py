"""What `/progress` tells is what its schema says."""

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from acceleratedjob import metrics
from acceleratedjob.observe.progress import read_last_progress
from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.progress.bounds import MAX_COUNT
from runtime.control.progress.encoding import MAX_BYTES, last_words, to_json
from runtime.control.progress.metrics import to_prometheus
from runtime.control.progress.snapshot import Lost, RankProgress, Snapshot, Verdict, VerdictKind
from runtime.control.progress.tracker import Tracker
from tests.contract.documents import read
from tests.contract.snapshots import AT, FULL, SCHEMA, snapshots, wrong

PAGE = read("docs/progress.md")
SLOW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@given(snapshots())
@SLOW
def test_whatever_ranks_say_the_answer_is_as_the_schema_says_and_bounded(
    snapshot: Snapshot,
) -> None:
    answer = to_json(snapshot)
    assert wrong(answer) == []
    assert len(answer) <= MAX_BYTES


@given(snapshots())
@SLOW
def test_what_is_left_at_the_end_is_read_by_the_operator_and_bounded(snapshot: Snapshot) -> None:
    words = json.loads(json.dumps(last_words(snapshot)))
    assert len(json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()) <= 2048
    found = read_last_progress(words)
    assert found is not None
    lives = [one.life for one in snapshot.failures]
    assert [one.life for one in found.failures] == lives[: len(found.failures)]


def test_the_newest_failures_that_fit_are_left_at_the_end() -> None:
    long = [replace(FULL.failures[0], life=life, message="x" * 400) for life in (4, 3, 2, 1, 0)]
    told = last_words(replace(FULL, failures=tuple(long)))
    assert [one["life"] for one in told["failures"]] == [4, 3, 2]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"step": None, "percent": 101}, id="a percentage above 100"),
        pytest.param({"loss": "broken"}, id="a loss that is a word"),
        pytest.param({"ranks": [{"rank": 0}]}, id="a rank without its facts"),
        pytest.param({"lastStepTime": "2026-01-02 03:04:05"}, id="a time of another form"),
        pytest.param({"more": 1}, id="a property that is not in the schema"),
    ],
)
def test_the_schema_finds(change: dict[str, Any]) -> None:
    told = json.loads(to_json(Snapshot()))
    assert wrong(json.dumps(told).encode()) == []
    assert wrong(json.dumps(told | change).encode()) != []


def crowd(size: int) -> Snapshot:
    """A world of many ranks, with the longest texts that there can be."""
    tracker = Tracker(attempt=0, ranks=size, now=0.0, name="\N{GRINNING FACE}" * 999)
    texts = {f"\N{GRINNING FACE}{number:04}" + '"' * 99: 1e-300 / 3 for number in range(99)}
    for rank in range(size):
        place = Place(MAX_COUNT - 5 * (rank == 7), MAX_COUNT)
        beat = Beat(place=place, phase=Phase.EVALUATION, step_seconds=1 / 3, metrics=texts)
        slow = 3.0 if rank == 4711 else 1.0 - rank / size / 2
        # rank 7 is behind, rank 4711 slow, and of the others each is a little faster than the last
        tracker.hear(rank, replace(beat, own_seconds=slow), 1.0, life=0)
    blamed = Verdict(kind=VerdictKind.HANG, text='"' * 999, node="\N{GRINNING FACE}" * 999)
    tracker.judge([blamed] * 99, 2.0)
    return tracker.snapshot(2.0, AT)


def test_of_ten_thousand_ranks_those_behind_and_the_slowest_are_told() -> None:
    answer = to_json(crowd(10_000))
    told = json.loads(answer)
    ranks = [one["rank"] for one in told["ranks"]]
    assert MAX_BYTES - 300 < len(answer) <= MAX_BYTES
    assert wrong(answer) == []
    assert told["worldSize"] == len(ranks) + told["ranksOmitted"] == 10_000
    assert ranks == sorted(ranks)
    slowest = len(ranks) - 1  # the ranks are the slower the lower their number is
    assert ranks == [*range(slowest), 4711]
    assert 7 in ranks


def test_ranks_that_were_not_heard_are_told_before_slow_ones() -> None:
    heard = RankProgress(rank=0, place=Place(3, 1), phase=Phase.STEP, own_seconds=9.0)
    snapshot = Snapshot(ranks=(heard, RankProgress(rank=1)))
    room = len(to_json(snapshot)) - 1
    assert [one["rank"] for one in json.loads(to_json(snapshot, room))["ranks"]] == [1]


def test_the_page_names_every_metric_there_is_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(accelerated_job_\w+)` \| (\w+) \| (\w*) ?\|", PAGE, re.MULTILINE)
    told = to_prometheus(FULL).decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", told, re.MULTILINE))
    labels = dict(re.findall(r"^(\w+){(\w+)=", told, re.MULTILINE))
    assert {name: kind for name, kind, _ in rows} == types
    assert {name: label for name, _, label in rows if label} == labels


def test_no_metric_is_the_operators() -> None:
    assert not set(re.findall(r"accelerated_job_\w+", PAGE)) & set(metrics.names())


def test_the_page_names_every_cause_of_lost_time() -> None:
    causes = {
        cause
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE)
        for cause in re.findall(r"`(\w+)`", row)
    }
    assert {one.name for one in fields(Lost)} <= causes


def test_nan_and_infinity_are_texts_as_in_the_json_of_protobuf() -> None:
    told = json.loads(to_json(Snapshot(loss=float("nan"), metrics={"a": -float("inf"), "b": 0.1})))
    assert (told["loss"], told["metrics"]) == ("NaN", {"a": "-Infinity", "b": 0.1})


def test_every_cause_of_lost_time_is_in_the_schema() -> None:
    told = json.loads(to_json(Snapshot(goodput=replace(Snapshot().goodput, lost=Lost(hang=1.0)))))
    assert set(told["goodput"]["lost"]) == set(
        SCHEMA["$defs"]["goodput"]["properties"]["lost"]["required"]
    )
