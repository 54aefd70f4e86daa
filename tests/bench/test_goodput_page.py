"""The page of bench/goodput says what was measured, and what was not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.goodput import store
from bench.goodput.__main__ import cells, main, parser
from bench.goodput.cell import Cell, Result
from bench.goodput.metrics import SPENT, Figures
from bench.goodput.page import page
from bench.goodput.schedule import Fault
from bench.goodput.store import Stored
from bench.goodput.summary import Recovery, best, equal_bits, oracles, overhead
from bench.goodput.systems.table import BY_NAME, GROUPS, RAW, SYSTEMS, chosen
from bench.goodput.workloads import WORKLOADS, Task
from bench.machine import Run
from tests.distributed.world import ROOT

DOCS = ROOT / "docs"
OURS = BY_NAME["ours"].group
THEIRS = BY_NAME["accelerate-10"].group


def result(system: str = "ours", mtbf: float | None = 60.0, seed: int = 0, **more: Any) -> Result:
    """A result, whose figures have some of `more`."""
    outage = {
        "fault": Fault.KILL,
        "faults": 1,
        "seconds": 2.0,
        "redone": 1,
        "split": dict.fromkeys(("detect", "stop", "start", "join", "load", "first"), 0.25),
    }
    spent = {name: 100.0 / len(SPENT) for name in SPENT}
    facts: dict[str, Any] = {
        "seconds": 100.0,
        "step_seconds": 0.05,
        "reference": 0.05,
        "goodput": 0.9,
        "ettr": 0.9,
        "spent": spent,
        "redone": 1.0,
        "lost": 0,
        "repeated": 0,
        "outages": [outage],
        "digest": 1,
    }
    figures = Figures(**(facts | {key: more[key] for key in facts.keys() & more.keys()}))
    cell = Cell(system=system, workload="step", seconds=90.0, mtbf=mtbf, seed=seed)
    whole = Result(
        cell=cell,
        figures=figures,
        is_done=True,
        faults=1,
        restarts=0,
        start=5.0,
        load_before="0.10",
        load_after="0.20",
    )
    return replace(whole, **{key: more[key] for key in more.keys() - facts.keys()})


def test_the_page_is_made_of_the_results_beside_it() -> None:
    stored = store.read(DOCS)
    text = (DOCS / store.PAGE).read_text()
    assert text == page(stored.run, stored.results, stored.missing)


def test_a_page_without_results_says_that_nothing_was_measured() -> None:
    text = page(None, [], {})
    assert text.count("This workload was not measured.") == len(WORKLOADS)
    assert f"Not measured: {'; '.join(GROUPS[1:])}." in text


def test_a_system_of_which_nothing_was_measured_has_no_row() -> None:
    text = page(None, [result()], {})
    assert f"| {OURS} | not measured | 0.900 |" in text
    assert f"| {THEIRS} |" not in text
    assert f"; {THEIRS}; " in text


def test_results_are_stored_and_a_new_one_replaces_that_of_the_same_training(
    tmp_path: Path,
) -> None:
    run = Run.begun("pytest", 1)
    first = Stored(run, [result(), result("raw", None)], {"accelerate-10": "it is not there"})
    store.write(tmp_path, first)
    found = store.read(tmp_path)
    assert [one.cell.system for one in found.results] == [RAW, "ours"]
    assert found.run == run
    again = replace(found, results=[*found.results, result(goodput=0.5)])
    text = store.write(tmp_path, again).read_text()
    assert [one.figures.goodput for one in store.read(tmp_path).results if one.figures] == [
        *(0.9, 0.5)
    ]
    assert "| 0.500 |" in text
    assert "- accelerate-10: it is not there" in text
    assert (tmp_path / "performance" / "goodput-step.svg").exists()


def test_the_best_setting_of_a_group_is_shown_with_its_name() -> None:
    found = [
        result("accelerate-10", goodput=0.5),
        result("accelerate-50", goodput=0.6),
        result("accelerate-50", seed=1, goodput=0.7),
        result("accelerate-200", goodput=0.4),
    ]
    summary = best(found, THEIRS, "step", 60.0)
    assert summary is not None
    assert summary.goodput == pytest.approx(0.65)
    assert best(found, THEIRS, "step", 15.0) is None
    row = "| 0.650 (0.60 - 0.70) | not measured | not measured | save_state every 50 steps"
    assert f"{row} |" in page(None, found, {})
    assert f"{row} (2 of 3 measured) |" in page(None, found[1:], {})


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        pytest.param({}, "0.900 |", id="as it should be"),
        pytest.param({"lost": 3}, "0.900† |", id="samples are lost"),
        pytest.param({"repeated": 3}, "0.900† |", id="samples are repeated"),
        pytest.param({"is_done": False}, "0.900‡ |", id="it did not end"),
        pytest.param({"figures": None, "is_done": False}, "0.000‡ |", id="it made no step"),
    ],
)
def test_a_training_that_is_not_as_it_should_be_is_marked(
    changes: dict[str, Any], cell: str
) -> None:
    assert f"| {OURS} | not measured | {cell}" in page(None, [result(**changes)], {})


def test_recoveries_are_those_of_faults_that_came_alone() -> None:
    together = {**result().figures.outages[0], "faults": 2, "seconds": 99.0}  # type: ignore[union-attr]
    found = [result(), result(seed=1, outages=[together])]
    recovery = Recovery.of(found, OURS, "step", Fault.KILL)
    assert (recovery.seconds, recovery.redone, recovery.verdicts) == ([2.0], [1], [0.25])
    assert Recovery.of(found, OURS, "step", Fault.HANG).seconds == []


def test_recoveries_are_those_of_the_best_settings() -> None:
    slow = {**result().figures.outages[0], "redone": 100}  # type: ignore[union-attr]
    worse = [result("accelerate-200", goodput=0.1, mtbf=mtbf, outages=[slow]) for mtbf in (15, 60)]
    found = [result("accelerate-10"), result("accelerate-50", mtbf=15.0), *worse]
    assert Recovery.of(found, THEIRS, "step", Fault.KILL).redone == [1, 1]
    assert Recovery.of(worse, THEIRS, "step", Fault.KILL).redone == [100, 100]


def test_bits_are_compared_with_the_same_system_without_faults() -> None:
    clean, other = result(mtbf=None, digest=1), result("accelerate-10", digest=1)
    found = [clean, result(seed=0, digest=1), result(seed=1, digest=2), other]
    assert equal_bits(found, OURS) == (1, 2)
    assert equal_bits(found, THEIRS) == (0, 0)
    unfinished = [result(mtbf=None, digest=None), result(digest=None)]
    assert equal_bits(unfinished, OURS) == (0, 1)


def test_the_overhead_is_that_without_faults() -> None:
    """Beside the raw loop at that time, whatever that was at others."""
    clean = result(mtbf=None)
    least = 0.05 * clean.cell.steps
    found = [result(RAW, None), result(mtbf=None, seconds=1.01 * least), result(seconds=500.0)]
    assert overhead(found, "ours", "step") == pytest.approx(0.01)
    slower = result(mtbf=None, seconds=3.03 * least, reference=0.15)
    assert overhead([*found, slower], "ours", "step") == pytest.approx(0.01)


def test_the_oracle_has_the_same_schedules_and_is_below_the_raw_loop() -> None:
    found = [result(RAW, None), result(mtbf=15.0), result(mtbf=15.0, seed=1)]
    values = oracles(found, "step", 15.0)
    assert len(values) == 2
    assert all(0 < value < 1 for value in values)
    assert oracles(found[1:], "step", 15.0) == []


def test_systems_take_turns_there_and_back_after_those_without_faults() -> None:
    flags = ["--systems", "ours", "accelerate-10", "--mtbf", "60", "--seeds", "0", "1"]
    found = list(cells(parser().parse_args(["run", *flags, "--workloads", "step"])))
    assert [(one.system, one.mtbf, one.seed) for one in found] == [
        *((RAW, None, 0), ("ours", None, 0), ("accelerate-10", None, 0)),
        *(("ours", 60.0, 0), ("accelerate-10", 60.0, 0)),
        *(("accelerate-10", 60.0, 1), ("ours", 60.0, 1)),
    ]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        pytest.param(["ours"], ["ours"], id="a name, not those that begin with it"),
        pytest.param(["accelerate"], [f"accelerate-{n}" for n in (10, 50, 200)], id="all settings"),
        pytest.param(["stateful-10", "raw"], ["raw", "stateful-10"], id="in the order of the page"),
    ],
)
def test_systems_are_chosen_by_their_names(names: list[str], found: list[str]) -> None:
    assert [one.name for one in chosen(names)] == found


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a system must be one of raw, ours.* got 'other'"):
        chosen(["other"])


def test_what_is_stored_is_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = [result("raw", None), result(mtbf=None)]
    store.write(tmp_path, Stored(None, [*clean, result()], {}))
    flags = ["--systems", "ours", "--mtbf", "60", "--seeds", "0", "--seconds", "90"]
    main(["run", *flags, "--workloads", "step", "--output", str(tmp_path)])
    assert "ours, step, a fault each 60 s, seed 0: goodput 0.900" in capsys.readouterr().out


def test_names_are_unique_and_each_workload_fills_whole_batches(tmp_path: Path) -> None:
    assert len(BY_NAME) == len(SYSTEMS)
    for workload in WORKLOADS.values():
        work = workload.work
        assert work.samples % (work.ranks * work.batch) == 0
        long = workload.lasting(600)
        assert long.work.steps * workload.step == pytest.approx(600, rel=0.05)
        task = Task(long, tmp_path, 10)
        assert Task.from_env(task.env) == task
