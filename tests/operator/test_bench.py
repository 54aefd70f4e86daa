"""The operator's benchmark judges as it says, and its page is made of its results."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.machine import Run
from bench.operator import store
from bench.operator.__main__ import chosen, order
from bench.operator.apiserver import Traffic
from bench.operator.lines import FACTS, GOALS, LINES, THEMES, Goal
from bench.operator.page import goal_row, page
from bench.operator.reasons import REASONS
from bench.operator.results import Made, Result, Verdict
from bench.operator.training import TRAINING_OPERATOR

DOCS = Path(__file__).parents[2] / "docs"
LINE = "burst-1x512"


def test_the_page_is_made_of_the_results_beside_it_and_has_a_row_for_each_goal() -> None:
    text = (DOCS / store.PAGE).read_text()
    assert text == page(*store.read(DOCS))
    goals = re.findall(r"^\| (.*?) \|", text.split("## Goals")[1].split("\n## ")[0], re.MULTILINE)
    assert goals[1:] == [goal.what for goal in GOALS]


def test_names_are_unique_and_known_where_they_are_used() -> None:
    assert len({line.name for line in LINES}) == len(LINES)
    assert len({goal.name for goal in GOALS}) == len(GOALS)
    assert set(REASONS) <= {goal.name for goal in GOALS}
    assert {line.theme for line in LINES} == set(THEMES)
    assert {goal.fact for goal in GOALS} <= set(FACTS)


def result(way: str, *facts: Mapping[str, float], line: str = LINE) -> Result:
    return Result(line, way, {"jobs": 1, "pods": 512}, [dict(found) for found in facts])


def goal(**asked: Any) -> Goal:
    return Goal(name="a", what="A", line=LINE, **asked)


TWICE = goal(fact="rate", limit=2, peer="indexed job")
SMALL = goal(fact="memory", limit=4e8)


@pytest.mark.parametrize(
    ("asked", "results", "is_reached"),
    [
        pytest.param(
            TWICE,
            [result("operator", {"rate": 400}), result("indexed job", {"rate": 200})],
            True,
            id="twice as fast",
        ),
        pytest.param(
            TWICE,
            [result("operator", {"rate": 399}), result("indexed job", {"rate": 200})],
            False,
            id="not quite twice as fast",
        ),
        pytest.param(
            TWICE,
            [
                result("operator", {"rate": 9}, {"rate": 300}, {"rate": 400}),
                result("indexed job", {"rate": 100}, {"rate": 150}, {"rate": 900}),
            ],
            True,
            id="by the medians",
        ),
        pytest.param(TWICE, [result("operator", {"rate": 400})], False, id="no peer, no success"),
        pytest.param(SMALL, [result("operator", {"memory": 4e8})], True, id="at the limit"),
        pytest.param(SMALL, [result("operator", {"memory": 5e8})], False, id="above the limit"),
        pytest.param(SMALL, [], False, id="nothing measured"),
    ],
)
def test_a_goal_is_judged_by_medians(
    asked: Goal, results: Sequence[Result], is_reached: bool
) -> None:
    assert Verdict.on(asked, results).is_reached is is_reached
    assert ("| yes |" in goal_row(asked, results)) is is_reached


@pytest.mark.parametrize(
    ("line", "peer"),
    [
        pytest.param("burst-2x2", None, id="a line that is not there"),
        pytest.param("idle", "raw posts", id="a peer that the line does not measure"),
    ],
)
def test_a_goal_that_cannot_be_judged_is_refused(line: str, peer: str | None) -> None:
    with pytest.raises(ValueError, match="must measure what is compared"):
        Goal(name="a", what="A", line=line, fact="rate", limit=1, peer=peer)


def test_ways_take_turns_there_and_back_and_a_slow_one_takes_one() -> None:
    (line,) = chosen([LINE])
    first, second = ([way.name for way in order(line, rounds)] for rounds in (1, 2))
    jobs = ["indexed job", "indexed job and service"]
    assert first == ["operator", *jobs, "training-operator", "raw posts"]
    assert second == [*first, "raw posts", *reversed(jobs), "operator"]
    less = line.without(TRAINING_OPERATOR)
    assert [way.name for way in order(less, 1)] == ["operator", *jobs, "raw posts"]


METRICS = """
apiserver_request_total{group="",resource="pods",subresource="",verb="POST"} %s
apiserver_request_total{group="",resource="pods",subresource="binding",verb="POST"} 8
apiserver_request_total{group="",resource="pods",subresource="status",verb="PATCH"} 8
apiserver_request_total{group="",resource="pods",subresource="",verb="LIST"} 70
apiserver_request_total{group="",resource="events",subresource="",verb="POST"} 1
apiserver_request_total{group="events.k8s.io",resource="events",subresource="",verb="POST"} 9
apiserver_request_total{code="201",group="batch",resource="jobs",subresource="",verb="POST"} 1
apiserver_request_total{code="200",group="batch",resource="jobs",subresource="status",verb="PUT"} 2
apiserver_request_total{group="coordination.k8s.io",resource="leases",subresource="",verb="PUT"} 5
apiserver_request_body_size_bytes_sum{group="",resource="pods",verb="create"} 4000
apiserver_request_body_size_bytes_sum{group="",resource="pods",verb="patch"} 2000
apiserver_request_body_size_bytes_sum{group="batch",resource="jobs",verb="create"} 300
apiserver_request_body_size_bytes_sum{group="batch",resource="jobs",verb="update"} 500
"""


def test_writes_of_controllers_are_told_from_those_of_others() -> None:
    before, after = Traffic.read(METRICS % "2"), Traffic.read(METRICS % "10")
    assert after.of_controllers() == 10 + 1 + 2  # pods, event, status
    assert after.of_kind(verb="POST", resource="pods") == 10
    assert after.body_bytes() == 4000 + 500
    assert after.at_all() == 10 + 8 + 8 + 1 + 9 + 1 + 2
    assert after.since(before).of_controllers() == 8
    assert after.since(after).at_all() == 0


def test_results_that_are_not_measured_again_stay_and_name_their_place(tmp_path: Path) -> None:
    made = Made(Run.begun("pytest", 1), {"kubernetes": "v1", "training_operator": "v2"}, 60)
    old = result("operator", {"memory": 1.0}, line="burst-64x8")
    store.write(tmp_path, made, [old, result("operator", {"rate": 1.0})])
    store.write(tmp_path, made, [result("operator", {"rate": 2.0})])
    assert store.read(tmp_path) == (made, [result("operator", {"rate": 2.0}), old])
    unlike = replace(made, versions={**made.versions, "kubernetes": "v3"})
    written = store.write(tmp_path, unlike, [old])
    earlier = replace(result("operator", {"rate": 2.0}), elsewhere=made.place)
    assert store.read(tmp_path) == (unlike, [earlier, old])
    assert written.read_text() == page(unlike, [earlier, old])
    assert f"- Measured earlier, on {made.place}: {LINE} (1 x 512).\n" in written.read_text()
