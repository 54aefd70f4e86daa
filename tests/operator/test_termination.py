import json
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.termination import (
    MAX_BYTES,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    LastWords,
    read_last_words,
)
from acceleratedjob.planner.failure_policy import failure
from acceleratedjob.planner.failures import Cause, causes
from acceleratedjob.planner.planner import plan
from tests.operator.builders import NOW, ended, pod, spec


def told(**fields: Any) -> str:
    return json.dumps({"exception": "ValueError"} | fields)


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
