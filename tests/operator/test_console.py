"""Lines scroll above the live lines, of which none is left at the end."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api import names
from acceleratedjob.commands.console import MAX_BARS, Console
from acceleratedjob.commands.screen import has_color, is_live
from acceleratedjob.lines import Line, LineCutter
from tests.operator.screen import Screen
from tests.operator.screen import Tty as Terminal


def pod(index: int) -> dict[str, Any]:
    return {"metadata": {"labels": {names.REPLICA_INDEX_LABEL: str(index)}}}


def shown(out: io.StringIO) -> list[str]:
    screen = Screen()
    screen.feed(out.getvalue())
    return screen.lines


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns that somebody looks at."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def test_lines_scroll_above_the_status_and_the_bar_of_a_replica() -> None:
    out = Terminal()
    console = Console(out)
    console.live("status 1")
    assert shown(out) == ["status 1"]
    console.pod(pod(0), [Line("a")])
    assert shown(out) == ["[0] a", "status 1"]
    console.pod(pod(1), [Line("10%", is_overwritten=True)])
    assert shown(out) == ["[0] a", "[1] 10%", "status 1"]
    console.pod(pod(0), [Line("b")])
    assert shown(out) == ["[0] a", "[0] b", "[1] 10%", "status 1"]
    console.live("status 2")
    assert shown(out) == ["[0] a", "[0] b", "[1] 10%", "status 2"]
    console.pod(pod(1), [Line("20%")])
    console.tell("Restarting")
    assert shown(out) == ["[0] a", "[0] b", "[1] 20%", "-- Restarting", "status 2"]
    console.close()
    assert shown(out) == ["[0] a", "[0] b", "[1] 20%", "-- Restarting"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["live", "bar", "line", "tell", "close"]),
            st.text("abc", max_size=100),
            st.integers(0, 2),
        )
    )
)
def test_the_lines_are_kept_whatever_lives_below_them(acts: list[tuple[str, str, int]]) -> None:
    out, lines = Terminal(), []
    console = Console(out)
    for act, text, index in acts:
        if act == "live":
            console.live(text)
        elif act == "close":
            console.close()
        elif act == "tell":
            console.tell(text)
            lines.append(f"-- {text}")
        else:
            console.pod(pod(index), [Line(text, is_overwritten=act == "bar")])
            lines += [f"[{index}] {text}"] * (act == "line")
        assert shown(out)[: len(lines)] == lines or not lines
        assert len(shown(out)) <= len(lines) + 4
        assert all(len(line) <= 80 for line in shown(out)[len(lines) :])
    console.close()
    assert shown(out) == (lines or [""])


def test_live_lines_are_cut_because_one_that_wraps_could_not_be_removed() -> None:
    out = Terminal()
    console = Console(out)
    console.live("a" * 200)
    console.pod(pod(0), [Line("b" * 200, is_overwritten=True)])
    assert [len(line) for line in shown(out)] == [80, 80]


def test_without_a_terminal_there_are_lines_only() -> None:
    out = io.StringIO()
    console = Console(out)
    console.live("status")
    console.pod(pod(0), [Line("10%", is_overwritten=True)])
    console.pod(pod(0), [Line("a")])
    console.close()
    assert out.getvalue() == "[0] 10%\n[0] a\n"


@pytest.mark.parametrize(
    ("out", "env", "live", "color"),
    [
        pytest.param(Terminal(), {}, True, True, id="a terminal"),
        pytest.param(Terminal(), {"NO_COLOR": "1"}, True, False, id="a terminal without colors"),
        pytest.param(Terminal(), {"NO_COLOR": ""}, True, True, id="an empty NO_COLOR is none"),
        pytest.param(Terminal(), {"CI": "true"}, False, True, id="the terminal of a CI"),
        pytest.param(Terminal(), {"TERM": "dumb"}, False, False, id="a terminal without a cursor"),
        pytest.param(io.StringIO(), {}, False, False, id="a file"),
    ],
)
def test_when_lines_are_live_and_have_colors(
    out: io.StringIO, env: dict[str, str], live: bool, color: bool
) -> None:
    given = {"TERM": "xterm"} | env
    assert (is_live(out, given), has_color(out, given)) == (live, color)


def test_a_terminal_without_colors_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    Console(out).pod(pod(0), [Line("a")])
    assert out.getvalue() == "[0] a\n"


def test_each_replica_has_its_own_bar_below_the_lines() -> None:
    out = Terminal()
    console = Console(out)
    console.live("status")
    console.pod(pod(1), [Line("b 10%", is_overwritten=True)])
    console.pod(pod(0), [Line("a 10%", is_overwritten=True), Line("x")])
    console.pod(pod(0), [Line("a 20%", is_overwritten=True, is_finished=False)])
    assert shown(out) == ["[0] x", "[0] a 20%", "[1] b 10%", "status"]
    console.pod(pod(1), [Line("b done")])
    assert shown(out) == ["[0] x", "[1] b done", "[0] a 20%", "status"]


def test_a_colored_bar_is_cut_by_what_is_seen_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    console = Console(out)
    console.pod(pod(0), [Line("\x1b[32m" + "█" * 30 + "\x1b[0m", is_overwritten=True)])
    (bar,) = shown(out)
    assert bar == "[0] " + "█" * 16


HOSTILE = "\x1b[2Ja\x1b[31mb\x1b]0;title\x07\x1b[Ac\x00\x1bc\td"


def test_on_a_terminal_the_output_has_colors_but_does_not_move_the_cursor() -> None:
    out = Terminal()
    Console(out).pod(pod(0), [Line(HOSTILE)])
    assert out.getvalue() == "\x1b[36m[0]\x1b[0m a\x1b[31mbc\td\x1b[0m\n"


def test_in_a_pipe_the_output_is_unchanged() -> None:
    out = io.StringIO()
    Console(out).pod(pod(0), [Line(HOSTILE)])
    assert out.getvalue() == f"[0] {HOSTILE}\n"


def test_a_prompt_is_shown_before_its_line_ends_and_the_status_waits() -> None:
    out = Terminal()
    console = Console(out, prompts=True)
    console.live("status")
    console.pod(pod(0), [Line("x"), Line("name?", is_finished=False)])
    assert shown(out) == ["[0] x", "[0] name?"]
    console.live("status 2")
    console.pod(pod(0), [Line("name? ann", is_finished=False)])
    assert shown(out) == ["[0] x", "[0] name? ann"]
    console.pod(pod(0), [Line("name? ann.")])
    assert shown(out) == ["[0] x", "[0] name? ann.", "status 2"]
    console.pod(pod(0), [Line("again?", is_finished=False)])
    console.tell("Succeeded")
    assert shown(out)[2:] == ["[0] again?", "-- Succeeded", "status 2"]


def test_without_a_person_a_line_is_shown_when_it_ends() -> None:
    out = io.StringIO()
    console = Console(out)
    console.pod(pod(0), [Line("10", is_finished=False)])
    assert out.getvalue() == ""
    console.pod(pod(0), [Line("100%")])
    assert out.getvalue() == "[0] 100%\n"


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\xc3", b"\xa4", b"bc"]), max_size=12))
def test_what_is_begun_is_the_beginning_of_the_line_that_comes(parts: list[bytes]) -> None:
    cutter, begun = LineCutter(), ""
    for part in [*parts, b"\n"]:
        for line in cutter.feed(part):
            assert line.text.startswith(begun)
            begun = ""
        beginning = cutter.beginning
        assert beginning is None or beginning.text.startswith(begun)
        begun = beginning.text if beginning else ""


def test_a_beginning_that_becomes_a_bar_leaves_nothing_out() -> None:
    out = Terminal()
    console = Console(out, prompts=True)
    console.live("status")
    console.pod(pod(0), [Line("abc", is_finished=False)])
    console.pod(pod(0), [Line("abc", is_overwritten=True), Line("x", True, is_finished=False)])
    assert shown(out) == ["[0] abc", "[0] x", "status"]
    console.pod(pod(0), [Line("xyz")])
    assert shown(out) == ["[0] abc", "[0] xyz", "status"]


def test_a_colored_prompt_is_printed_once() -> None:
    out = Terminal()
    console = Console(out, prompts=True)
    console.pod(pod(0), [Line("\x1b[31mname?", is_finished=False)])
    console.pod(pod(0), [Line("\x1b[31mname? ann")])
    assert out.getvalue() == "\x1b[36m[0]\x1b[0m \x1b[31mname? ann\x1b[0m\n"


def test_more_bars_than_there_is_room_for_are_counted() -> None:
    out = Terminal()
    console = Console(out)
    console.live("status")
    for index in range(MAX_BARS + 2):
        console.pod(pod(index), [Line("10%", is_overwritten=True)])
    assert shown(out)[MAX_BARS - 1 :] == [f"[{MAX_BARS - 1}] 10%", "2 more progress bars", "status"]


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\xc3", b"\xa4", b"bc"]), max_size=12))
def test_in_a_pipe_prompts_change_nothing(parts: list[bytes]) -> None:
    outs = io.StringIO(), io.StringIO()
    for out in outs:
        console, cutter = Console(out, prompts=out is outs[0]), LineCutter()
        for part in parts:
            finished, begun = [*cutter.feed(part)], cutter.beginning
            console.pod(pod(0), [*finished, begun] if begun else finished)
        console.pod(pod(0), [*cutter.end()])
    assert outs[0].getvalue() == outs[1].getvalue()
