import io
import os
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age
from acceleratedjob.commands import table
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.log_choice import Wish, choose, mixed
from acceleratedjob.commands.log_reader import wants_colour
from acceleratedjob.commands.screen import print_table
from acceleratedjob.commands.text import aligned, ending
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner.report import progress, restarting
from acceleratedjob.terminal import plain
from tests.operator.builders import NOW, ago, pod, spec, stored
from tests.operator.screen import Tty

JOB = spec(replicas=4)
RUNNING = progress(JOB, Observed(pods=tuple(map(pod, range(4)))), ago(3700))
RESTARTING = restarting(JOB, RUNNING, "", counted=True, now=ago(4))


PROGRESS = {"step": 120, "totalSteps": 1000, "percent": 12, "etaSeconds": 3700}


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        pytest.param(
            {}, ("Running", "4/4", "", "", "", "", "0", "1h6m"), id="it tells no progress"
        ),
        pytest.param(
            {"progress": PROGRESS, "shown": {"goodput": "87%"}},
            ("Running", "4/4", "120/1000", "12%", "1h1m", "87%", "0", "1h6m"),
            id="it does",
        ),
        pytest.param(
            {"progress": {"step": 120}},
            ("Running", "4/4", "120", "", "", "", "0", "1h6m"),
            id="no end",
        ),
        pytest.param(
            {"progress": "x", "phase": "a\x1b"},
            ("a?", "4/4", "", "", "", "", "0", "1h6m"),
            id="odd",
        ),
    ],
)
def test_a_row_of_the_table(more: dict[str, Any], cells: tuple[str, ...]) -> None:
    made = stored(RUNNING)
    made["status"] |= more
    assert table.row(made, NOW) == ("digits", *cells)
    assert table.row(made, NOW, namespaces=True) == ("research", "digits", *cells)


def test_a_jobs_row_before_any_operator_has_seen_it_and_after_it_is_gone() -> None:
    assert table.row(stored(None), NOW) == ("digits", "", "", "", "", "", "", "0", "1h6m")
    assert table.row(stored(RUNNING), NOW, gone=True)[1] == "Deleted"


def test_the_tables_columns_are_aligned_and_no_line_ends_in_blanks() -> None:
    out = io.StringIO()
    rows = [table.row(stored(status), NOW) for status in (RUNNING, None)]
    print_table([table.header(), *rows], out)
    assert out.getvalue().splitlines() == [
        "NAME     PHASE     READY   STEP   PROGRESS   ETA   GOODPUT   RESTARTS   AGE",
        "digits   Running   4/4                                       0          1h6m",
        "digits                                                       0          1h6m",
    ]
    assert aligned([("a", "b")], (3, 1)) == ["a     b"]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        pytest.param(200, table.HEADER, id="a wide terminal: all"),
        pytest.param(79, table.HEADER[:-1], id="first, no age"),
        pytest.param(60, (*table.HEADER[:6],), id="neither restarts nor goodput"),
        pytest.param(20, ("NAME", "PHASE"), id="a narrow one: name and phase"),
        pytest.param(3, ("NAME", "PHASE"), id="these two always"),
    ],
)
def test_a_table_leaves_out_columns_rather_than_cutting_cells(
    width: int, columns: tuple[str, ...]
) -> None:
    made = stored(RUNNING) | {"status": {"phase": "Running", "progress": PROGRESS}}
    rows = table.fitting([table.HEADER, table.row(made, NOW)], width)
    assert rows[0] == columns
    out = Tty()
    print_table(rows, out)
    assert "Running" in out.getvalue()
    assert "…" not in out.getvalue()


@pytest.mark.parametrize(
    ("asked", "processes", "indices", "prefix"),
    [
        ({}, 1, range(4), "rank 1 | "),
        ({"rank": 2}, 1, range(2, 3), ""),
        ({"replica": 3}, 1, range(3, 4), ""),
        ({}, 2, range(4), "replica 1 | "),
        ({"rank": 5}, 2, range(2, 3), ""),
    ],
)
def test_whose_logs_are_shown(
    asked: dict[str, int], processes: int, indices: range, prefix: str
) -> None:
    made = stored(replace(RUNNING, processes_per_replica=processes))
    choice = choose(made, Wish(**asked))  # type: ignore[arg-type]  # a table's row
    assert choice.indices == indices
    assert choice.prefix(1, colour=False) == prefix
    assert choice.prefix(1, colour=True) == (f"\x1b[33m{prefix[:-1]}\x1b[0m " if prefix else "")


def test_prefixes_are_of_one_width() -> None:
    choice = choose(stored(replace(RUNNING, size=12)), Wish())
    assert {len(choice.prefix(index, colour=False)) for index in range(12)} == {len("rank 11 | ")}


def test_a_rank_among_several_processes_is_said_to_be_mixed_with_them() -> None:
    made = stored(replace(RUNNING, processes_per_replica=2))
    assert mixed(choose(made, Wish(rank=5)), 5) == (
        "rank 5 is in replica 2, whose log mixes ranks 4 to 5"
    )
    assert mixed(choose(stored(RUNNING), Wish(rank=1)), 1) == ""


@pytest.mark.parametrize(
    ("status", "asked", "sentence"),
    [
        (RUNNING, {"rank": 4}, "--rank 4: digits has ranks 0 to 3, replicas 0 to 3"),
        (RUNNING, {"replica": -1}, "--replica -1: digits has ranks 0 to 3, replicas 0 to 3"),
        (
            RUNNING,
            {"previous": True},
            "digits has no previous attempt: its current attempt is the first",
        ),
        (None, {}, "digits has no pods: see `acceleratedjob why`"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    status: Status | None, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Misuse, match=sentence):
        choose(stored(status), Wish(**asked))


def test_the_previous_attempts_pods_are_found_by_their_labels() -> None:
    choice = choose(stored(RESTARTING), Wish(previous=True))
    assert choice.selector == "accelerated.dev/job-name=digits,accelerated.dev/attempt=0"


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        (None, None, ""),
        (3, None, "exit code 3"),
        (127, None, "exit code 127 (the command was not found)"),
        (139, 11, "exit code 139 (SIGSEGV, a crash in native code)"),
        (130, 2, "exit code 130 (SIGINT)"),
        (128 + 64, 64, "exit code 192 (SIGRTMAX)"),
        (128 + 33, 33, "exit code 161 (128 + signal 33)"),
    ],
)
def test_an_exit_code_in_words(code: int | None, number: int | None, words: str) -> None:
    assert ending(code, number) == words


@pytest.mark.parametrize("seconds", [-5, 0, 0.4])
def test_no_time_is_no_time(seconds: float) -> None:
    assert age(seconds) == "0s"


def test_what_moves_a_cursor_is_not_printed() -> None:
    assert plain("a\r\x07\x9b\u202eb\n") == "a????b\n"


@pytest.mark.parametrize(
    ("wish", "on_a_terminal", "no_color", "coloured"),
    [
        pytest.param("auto", True, "", True, id="a terminal"),
        pytest.param("auto", True, "1", False, id="a terminal of one who wants no colours"),
        pytest.param("auto", False, "", False, id="a pipe"),
        pytest.param("always", False, "1", True, id="asked for, whatever else"),
        pytest.param("never", True, "", False, id="not wanted"),
    ],
)
def test_when_lines_are_coloured(
    monkeypatch: pytest.MonkeyPatch, wish: str, on_a_terminal: bool, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    ends = os.openpty() if on_a_terminal else os.pipe()
    with os.fdopen(ends[0], "rb", 0), os.fdopen(ends[1], "w") as out:
        assert wants_colour(wish, out) is coloured
