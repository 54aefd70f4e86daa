"""The benchmark runs, judges as it says, and its page has all of its lines."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import store
from bench.__main__ import chosen, measured
from bench.case import Case, Goal, Result, Side, reached
from bench.cases import CASES
from bench.machine import Run
from bench.measure import Different, check, turns
from bench.page import SUMMARY, page, summary_row
from bench.plots import PLOTS
from bench.reasons import REASONS
from tests.distributed.world import ROOT

DOCS = ROOT / "docs"
NAMES = {case.name for case in CASES}
QUICK = ["epoch-exact", "scheduler-lambda"]  # one process for each column


def test_quick_cases_run_and_are_written(tmp_path: Path) -> None:
    results = list(measured(chosen(QUICK), 1, is_quick=True))
    made = store.write(tmp_path, Run.begun("pytest", 1), results).read_text()
    assert [result.case for result in results] == QUICK
    for result in results:
        assert set(result.samples) == {"theirs", "ours", "floor"}
        assert all(value > 0 for samples in result.samples.values() for value in samples)
    assert made == page(*store.read(tmp_path))


def stored(case: str, elsewhere: str = "") -> Result:
    size = {"samples": 10_000_000, "world": 8}
    return Result(case, size, {"theirs": [2.0], "ours": [1.0], "floor": [1.0]}, elsewhere)


@pytest.mark.parametrize("differs", ["cores", "processor", "python", "torch", "accelerate"])
def test_lines_that_are_not_measured_again_stay_and_name_their_place(
    tmp_path: Path, differs: str
) -> None:
    here = Run.begun("pytest", 1)
    another: dict[str, Any] = {differs: 96 if differs == "cores" else "another"}
    there = replace(here, **another)
    store.write(tmp_path, there, [stored("epoch-keyed"), stored("epoch-exact")])
    text = store.write(tmp_path, here, [stored("epoch-exact")]).read_text()
    old = stored("epoch-keyed", there.place)
    assert store.read(tmp_path) == (here, [old, stored("epoch-exact")])
    (title,) = (case.what for case in CASES if case.name == "epoch-keyed")
    assert f"- Measured earlier, on {there.place}: {title}.\n" in text

    text = store.write(tmp_path, there, [stored("epoch-exact")]).read_text()
    assert store.read(tmp_path) == (there, [stored("epoch-keyed"), stored("epoch-exact")])
    assert "Measured earlier" not in text


def test_the_page_is_made_of_the_results_beside_it_and_has_a_row_for_each_line() -> None:
    text = (DOCS / "performance.md").read_text()
    assert text == page(*store.read(DOCS))
    goals = re.findall(r"^\| (.*?) \|", text.split("## Goals")[1].split("\n## ")[0], re.MULTILINE)
    assert goals[1:] == [case.what for case in CASES]


def test_names_are_unique_and_known_where_they_are_used() -> None:
    assert len(NAMES) == len(CASES) == len({case.what for case in CASES})
    assert set(REASONS) <= NAMES
    assert {curve.case for plot in PLOTS for curve in plot.curves} <= NAMES
    assert SUMMARY <= NAMES


A = {"world": 2}


def case(**changes: Any) -> Case:
    options: dict[str, Any] = {
        "name": "a",
        "theme": "order",
        "what": "A cost",
        "unit": "s",
        "program": Result,
    }
    return Case(**(options | {"sizes": [A], "quick": [A]} | changes))


def goal(kind: str, limit: float) -> Goal:
    return Goal(kind=kind, limit=limit, at=A)


@pytest.mark.parametrize(
    ("asked", "theirs", "ours", "floor", "is_reached"),
    [
        pytest.param(goal("faster", 10), [10, 11], [1, 1], [1, 1], True, id="10 times: enough"),
        pytest.param(goal("faster", 10), [9, 10], [1, 1], [1, 1], False, id="9.5 times: not"),
        pytest.param(goal("of floor", 2), [9, 9], [2, 2], [1, 1], True, id="twice the floor"),
        pytest.param(goal("of floor", 2), [9, 9], [3, 2], [1, 1], False, id="more than twice"),
        pytest.param(goal("above floor", 1), [9, 9], [2, 2], [1, 1], True, id="just above it"),
        pytest.param(goal("above floor", 1), [9, 9], [3, 3], [1, 1], False, id="far above it"),
        pytest.param(goal("in all", 2), [], [2, 2], [1, 1], True, id="within a limit"),
        pytest.param(goal("in all", 2), [], [3, 3], [1, 1], False, id="over a limit"),
    ],
)
def test_a_goal_is_judged_by_the_median_of_the_rounds(
    asked: Goal,
    theirs: Sequence[float],
    ours: Sequence[float],
    floor: Sequence[float],
    is_reached: bool,
) -> None:
    result = Result("a", A, {"theirs": theirs, "ours": ours, "floor": floor})
    assert reached(asked, result) is is_reached
    assert ("| yes |" if is_reached else "| **no** |") in summary_row(case(goal=asked), [result])


@pytest.mark.parametrize(
    ("answers", "is_refused"),
    [
        pytest.param({"theirs": [1], "ours": [1], "floor": [None]}, False, id="the same"),
        pytest.param({"theirs": [1], "ours": [1], "floor": [1]}, False, id="the same everywhere"),
        pytest.param({"theirs": [1], "ours": [2], "floor": [None]}, True, id="ours is different"),
        pytest.param({"theirs": [1], "ours": [1], "floor": [2]}, True, id="the floor is different"),
        pytest.param({"theirs": [1, 1], "ours": [1, 2], "floor": [None]}, True, id="on one rank"),
        pytest.param({"theirs": [None], "ours": [None], "floor": [None]}, True, id="nobody says"),
    ],
)
def test_different_answers_are_never_timed(
    answers: Mapping[str, Sequence[Any]], is_refused: bool
) -> None:
    if not is_refused:
        check(case(), A, answers)
        return
    with pytest.raises(Different):
        check(case(), A, answers)


def test_a_floor_that_computes_less_is_not_compared() -> None:
    less = case(floor=Side("runtime", {}, computes_less=True))
    check(less, A, {"theirs": [1], "ours": [1], "floor": [2]})


def test_sides_take_turns_there_and_back() -> None:
    assert list(turns(["a", "b"], 3)) == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_a_goal_for_what_is_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="not measured"):
        case(goal=Goal(kind="faster", limit=2, at={"world": 3}))


def test_results_of_another_machine_are_added_with_its_name(tmp_path: Path) -> None:
    here = Run.begun("pytest", 1)
    there = replace(here, gpu="a card")
    store.write(tmp_path / "here", here, [stored("epoch-keyed"), stored("epoch-exact")])
    store.write(tmp_path / "there", there, [stored("epoch-keyed")])
    store.add(tmp_path / "here", tmp_path / "there")
    run, found = store.read(tmp_path / "here")
    assert run == here
    assert found == [stored("epoch-keyed", there.place), stored("epoch-exact")]
    assert "a card" in there.place


@pytest.mark.parametrize("name", [case.name for case in CASES if case.theme == "gpu"])
def test_without_a_gpu_a_case_for_one_is_refused_and_not_run_with_the_others(name: str) -> None:
    others = {case.name for case in chosen([])}
    assert (name in others) == torch.cuda.is_available()
    if name not in others:
        with pytest.raises(SystemExit):
            chosen([name])
