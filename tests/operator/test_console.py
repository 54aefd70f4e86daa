"""Lines scroll above the live lines, of which none is left at the end."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob.api import names
from acceleratedjob.commands.console import Console, has_colour, has_live_lines
from acceleratedjob.local.lines import Line
from tests.operator.screen import Screen


class Terminal(io.StringIO):
    """An output that is a terminal."""

    def isatty(self) -> bool:
        return True


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
    console.pod(pod(0), Line("a"))
    assert shown(out) == ["[0] a", "status 1"]
    console.pod(pod(1), Line("10%", is_overwritten=True))
    assert shown(out) == ["[0] a", "[1] 10%", "status 1"]
    console.pod(pod(0), Line("b"))
    assert shown(out) == ["[0] a", "[0] b", "[1] 10%", "status 1"]
    console.live("status 2")
    assert shown(out) == ["[0] a", "[0] b", "[1] 10%", "status 2"]
    console.pod(pod(1), Line("20%"))
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
            console.pod(pod(index), Line(text, is_overwritten=act == "bar"))
            lines += [f"[{index}] {text}"] * (act == "line")
        assert shown(out)[: len(lines)] == lines or not lines
        assert len(shown(out)) <= len(lines) + 2
        assert all(len(line) < 80 for line in shown(out)[len(lines) :])
    console.close()
    assert shown(out) == (lines or [""])


def test_live_lines_are_cut_because_one_that_wraps_could_not_be_removed() -> None:
    out = Terminal()
    console = Console(out)
    console.live("a" * 200)
    console.pod(pod(0), Line("b" * 200, is_overwritten=True))
    assert [len(line) for line in shown(out)] == [79, 79]


def test_without_a_terminal_there_are_lines_only() -> None:
    out = io.StringIO()
    console = Console(out)
    console.live("status")
    console.pod(pod(0), Line("10%", is_overwritten=True))
    console.pod(pod(0), Line("a"))
    console.close()
    assert out.getvalue() == "[0] 10%\n[0] a\n"


@pytest.mark.parametrize(
    ("out", "env", "live", "colour"),
    [
        pytest.param(Terminal(), {}, True, True, id="a terminal"),
        pytest.param(Terminal(), {"NO_COLOR": "1"}, True, False, id="a terminal without colors"),
        pytest.param(Terminal(), {"NO_COLOR": ""}, True, True, id="an empty NO_COLOR is none"),
        pytest.param(Terminal(), {"CI": "true"}, False, True, id="the terminal of a CI"),
        pytest.param(Terminal(), {"TERM": "dumb"}, False, True, id="a terminal without a cursor"),
        pytest.param(io.StringIO(), {}, False, False, id="a file"),
    ],
)
def test_when_lines_are_live_and_have_colors(
    out: io.StringIO, env: dict[str, str], live: bool, colour: bool
) -> None:
    assert (has_live_lines(out, env), has_colour(out, env)) == (live, colour)


def test_a_terminal_without_colors_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    Console(out).pod(pod(0), Line("a"))
    assert out.getvalue() == "[0] a\n"
