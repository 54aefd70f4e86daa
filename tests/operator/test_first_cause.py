"""Of pods that end together, the one that the cluster has stopped is why the attempt ended."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.termination import LastWords
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from tests.operator.builders import NOW, ago, ended, pod, spec

GANG = (pod(0), pod(1), pod(2))
RUNNING = progress(spec(replicas=3), Observed(status=Status(attempt=0, size=3), pods=GANG), NOW)


def drained(index: int, asked: float, over: float | None = None, code: int = 143) -> Pod:
    """A pod that `kubectl drain` evicts, seconds ago; it may have ended since."""
    begun: dict[str, Any] = {"disrupted": "EvictionByEvictionAPI", "disrupted_at": ago(asked)}
    facts = begun | {"deleted_at": ago(asked), "delete_by": ago(asked - 30)}
    if over is None:
        return pod(index, **facts)
    return ended(index, code, seconds_ago=over, **facts)


def missing(made: Pod) -> Pod:
    """The same pod, whose processes report that they miss others."""
    assert made.ending is not None
    words = LastWords(exception="runtime.errors.MissingProcesses")
    return replace(made, ending=replace(made.ending, last_words=words))


BROKEN = ended(1, 1, seconds_ago=20)  # by a broken pipe

TOGETHER = [
    pytest.param((drained(0, 30), BROKEN), (), id="it was asked before, and still runs"),
    pytest.param((drained(0, 30, 10), BROKEN), (), id="and ended later than the other"),
    pytest.param((drained(0, 19, 18), BROKEN), (), id="by clocks that differ a little"),
    pytest.param((BROKEN,), (drained(0, 30, 21),), id="its pod is gone"),
    pytest.param((missing(drained(0, 30, 21, 1)), BROKEN), (), id="it missed the others then"),
    pytest.param(
        (
            ended(
                0,
                137,
                seconds_ago=10,
                reason="Evicted",
                disrupted="TerminationByKubelet",
                disrupted_at=ago(21),
            ),
            BROKEN,
        ),
        (),
        id="its node evicts it",
    ),
    pytest.param((missing(BROKEN), pod(2)), (), id="nobody saw it go, and another misses it"),
]


@pytest.mark.parametrize(("pods", "lost"), TOGETHER)
def test_a_pod_that_is_taken_away_is_the_cause_and_costs_no_restart(
    pods: tuple[Pod, ...], lost: tuple[Pod, ...]
) -> None:
    there = {one.index for one in (*pods, *lost)} | {0}
    others = tuple(one for one in GANG if one.index not in there)
    for seen in itertools.permutations((*pods, *others)):
        made = plan(spec(replicas=3), Observed(status=RUNNING, pods=seen, lost=lost), NOW)
        (entry,) = made.status.failures
        assert entry.replica == 0
        assert (made.status.attempt, made.status.restarts) == (1, 0)


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param((drained(0, 10), BROKEN), id="one that is drained later"),
        pytest.param((BROKEN,), id="one that is alone"),
        pytest.param(
            (
                ended(0, 137, seconds_ago=5, disrupted="DeletionByTaintManager"),
                BROKEN,
            ),
            id="one that was taken away at a time that nobody knows, and ended later",
        ),
    ],
)
def test_a_failure_that_came_first_counts(pods: tuple[Pod, ...]) -> None:
    there = {one.index for one in pods}
    others = tuple(one for one in GANG if one.index not in there)
    made = plan(spec(replicas=3), Observed(status=RUNNING, pods=(*pods, *others)), NOW)
    assert made.status.failures[0].replica == 1
    assert made.status.restarts == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_cause_does_not_depend_on_what_was_seen_last(order: tuple[int, ...]) -> None:
    """Each change is seen alone: a reconcile between them may see any part of them."""
    end = (drained(0, 20, 10), ended(1, 1, seconds_ago=9), ended(2, 1, seconds_ago=9))
    pods = [drained(0, 20), *GANG[1:]]  # the API server has it before any process ends
    status = RUNNING
    for index in order:
        if status.attempt == 0:
            status = plan(spec(replicas=3), Observed(status=status, pods=tuple(pods)), NOW).status
        pods[index] = end[index]
    assert (status.attempt, status.restarts, status.failures[0].replica) == (1, 0, 0)
