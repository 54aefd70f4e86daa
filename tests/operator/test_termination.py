import json
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.status import Status
from acceleratedjob.observe.endings import read_ending
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.progress import Progress
from acceleratedjob.observe.termination import (
    MAX_BYTES,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    LastWords,
    read_final,
    read_hang,
    read_last_words,
    read_stopped,
)
from acceleratedjob.planner.failure_policy import failure
from acceleratedjob.planner.failures import Cause, causes
from acceleratedjob.planner.planner import plan
from tests.operator.builders import NOW, ended, pod, spec


def told(**fields: Any) -> str:
    return json.dumps({"exception": "ValueError"} | fields)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        pytest.param('{"stopped": {"step": 40}}', 40, id="as the runtime writes it"),
        pytest.param('{"stopped": {"step": 0}}', 0, id="before the first step"),
        pytest.param('{"stopped": {}}', None, id="no step"),
        pytest.param('{"stopped": {"step": -1}}', None, id="a step below 0"),
        pytest.param('{"stopped": {"step": "40"}}', None, id="a step in words"),
        pytest.param('{"stopped": {"step": true}}', None, id="true is no step"),
        pytest.param('{"stopped": [40]}', None, id="another type"),
        pytest.param(told(), None, id="an exception"),
        pytest.param("stopped", None, id="a sentence"),
        pytest.param('{"stopped": {"step": 4', None, id="cut off"),
        pytest.param('{"stopped": {"step": 1}}' + " " * MAX_BYTES, None, id="too long"),
        pytest.param('{"a":' * 700, None, id="deep"),
    ],
)
def test_the_step_of_a_stop(text: str, step: int | None) -> None:
    assert read_stopped(text) == step


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            told(message="no", traceback="at x", rank=3, step=40),
            LastWords(exception="ValueError", message="no", traceback="at x", rank=3, step=40),
            id="all of it",
        ),
        pytest.param(told(), LastWords(exception="ValueError"), id="the type alone"),
        pytest.param(
            told(message=7, traceback=None, rank="0", step=-1, more=[1]),
            LastWords(exception="ValueError"),
            id="fields of other types are left out",
        ),
        pytest.param(told(rank=True), LastWords(exception="ValueError"), id="true is no rank"),
        pytest.param(told(rank=2**40), LastWords(exception="ValueError"), id="a rank too large"),
        pytest.param(
            told(message="m" * 600, traceback="a" + "t" * 2900),
            LastWords(
                exception="ValueError", message="m" * MAX_MESSAGE, traceback="t" * MAX_TRACEBACK
            ),
            id="long texts: a message's beginning and a traceback's end",
        ),
        pytest.param(
            told(message="a\ud800b", traceback="\udfff"),
            LastWords(exception="ValueError", message="a?b", traceback="?"),
            id="halves of characters, which nobody can write down",
        ),
        pytest.param("", None, id="nothing"),
        pytest.param("disk full", None, id="a sentence"),
        pytest.param('{"exception": "Val', None, id="cut off"),
        pytest.param('["exception"]', None, id="a list"),
        pytest.param('{"code": 3}', None, id="another program's JSON"),
        pytest.param('{"exception": {"a": 1}}', None, id="an exception that is no word"),
        pytest.param('{"a":' * 800, None, id="nested without end"),
        pytest.param(told(message="m" * MAX_BYTES), None, id="more than a kubelet keeps"),
        pytest.param('{"rank": ' + "9" * 4000 + "}", None, id="a number without end"),
    ],
)
def test_what_is_read_from_a_termination_message(text: str, words: LastWords | None) -> None:
    assert read_last_words(text) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            '{"progress": {"attempt": 1, "step": 12, "more": 1}}',
            Progress(attempt=1, step=12),
            id="as the runtime writes it",
        ),
        pytest.param('{"progress": {"step": -1}}', None, id="a step below 0"),
        pytest.param('{"progress": {"stepSeconds": NaN}}', None, id="no number"),
        pytest.param('{"progress": {"goodput": 7}}', None, id="another type"),
        pytest.param('{"progress": [12]}', None, id="a list"),
        pytest.param('{"progress": null}', None, id="nothing"),
        pytest.param(told(), None, id="an exception"),
        pytest.param('{"progress": {"step": 1}}' + " " * MAX_BYTES, None, id="too long"),
    ],
)
def test_how_far_a_training_came(text: str, found: Progress | None) -> None:
    assert read_final(text) == found


def failed(index: int, words: LastWords | None, seconds_ago: float = 0) -> Pod:
    made = ended(index, 1, seconds_ago=seconds_ago)
    assert made.ending is not None
    return replace(made, ending=replace(made.ending, last_words=words))


def first(*pods: Pod) -> Cause:
    return min(causes(Observed(pods=pods), NOW))


LOST = LastWords(exception="runtime.errors.MissingProcesses", message="1 of 3 did not come")
OWN = LastWords(exception="KeyError", message="'x'", traceback="at y", rank=1, step=7)


def test_who_missed_another_is_not_the_first_cause_whatever_the_nodes_clocks_say() -> None:
    cause = first(failed(0, LOST, seconds_ago=9), failed(1, OWN))
    assert cause.pod.index == 1
    assert cause.message == "exited with code 1: KeyError: 'x'"


def test_one_that_misses_others_alone_is_the_cause() -> None:
    assert first(failed(0, LOST)).pod.index == 0


@pytest.mark.parametrize(
    ("processes", "rank"),
    [
        pytest.param(1, 1, id="one process a replica: the replica's index"),
        pytest.param(2, None, id="of several: not one that is of another replica"),
    ],
)
def test_the_rank_of_a_failure(processes: int, rank: int | None) -> None:
    job = spec(processesPerReplica=processes)
    assert failure(first(failed(1, OWN)), job.processes).rank == rank


def test_of_several_processes_the_one_that_tells_is_named() -> None:
    words = replace(OWN, rank=3)
    assert failure(first(failed(1, words)), 2).rank == 3


def test_a_failure_has_what_the_process_told_and_counts_its_victims() -> None:
    job = spec(replicas=3)
    pods = (failed(0, LOST), failed(1, OWN), pod(2))
    found = plan(job, Observed(status=Status(), pods=pods, service_uid="s"), NOW).status.failures
    (entry,) = found
    assert (entry.replica, entry.exit_code, entry.victims) == (1, 1, 1)
    assert (entry.exception, entry.traceback, entry.step) == ("KeyError", "at y", 7)


VERDICT = {
    "rank": 3,
    "replica": 3,
    "node": "n7",
    "file": "/app/data.py",
    "line": 88,
    "function": "read_shard",
    "since": "2026-01-01T13:21:38+02:00",
    "waitsIn": "all_reduce, collective 1812",
}
SAID = (
    "the training hung at rank 3 on node n7 in /app/data.py:88 since 2026-01-01T11:21:38Z; the "
    "others waited in all_reduce, collective 1812"
)


@pytest.mark.parametrize(
    ("hang", "sentence"),
    [
        pytest.param(VERDICT, SAID, id="all of it"),
        pytest.param({"rank": 3}, "the training hung at rank 3", id="the rank alone"),
        pytest.param(
            {"rank": 3, "node": 7, "line": -1, "since": "now", "file": ["a"], "waitsIn": None},
            "the training hung at rank 3",
            id="fields of other types are left out",
        ),
        pytest.param(
            {"rank": 3, "since": "2026-01-01T13:21:38"},
            "the training hung at rank 3",
            id="a time without a zone",
        ),
        pytest.param(
            {"rank": 3, "file": "a\n\x1b[2J" + "b" * 1000},
            "the training hung at rank 3 in a ?[2J" + "b" * 294,
            id="a file without end, in several lines",
        ),
        pytest.param({}, None, id="no rank"),
        pytest.param({"rank": True}, None, id="true is no rank"),
        pytest.param([3], None, id="no object"),
    ],
)
def test_the_verdict_that_the_training_hung(hang: object, sentence: str | None) -> None:
    found = read_hang(json.dumps({"hang": hang}))
    assert (found.sentence if found else None) == sentence


@pytest.mark.parametrize(
    ("message", "told"),
    [
        pytest.param(
            {"exception": "Hang", "message": "rank 3 ...", "rank": 3, "hang": VERDICT},
            f"was terminated by signal 9: {SAID}",
            id="it was killed meanwhile",
        ),
        pytest.param(
            {"exception": "KeyError", "message": "'x'", "hang": VERDICT},
            f"was terminated by signal 9: KeyError: 'x'; {SAID}",
            id="it failed meanwhile",
        ),
    ],
)
def test_a_failure_tells_where_the_training_hung_before(
    message: dict[str, object], told: str
) -> None:
    terminated = {"exitCode": 137, "finishedAt": "2026-01-01T12:00:00Z"}
    terminated["message"] = json.dumps(message)
    made = ended(1, 137)
    read = read_ending({"phase": "Failed"}, {"state": {"terminated": terminated}})
    entry = failure(first(replace(made, ending=read)), 1)
    assert entry.message == told
    assert entry.since == "2026-01-01T11:21:38Z"
