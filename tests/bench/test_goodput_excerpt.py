"""The page on fault tolerance shows the table of goodputs between two marks."""

from pathlib import Path

import pytest

from bench.goodput import store
from bench.goodput.excerpt import BEGIN, END, PAGE, put, replaced
from bench.goodput.page import excerpt
from tests.distributed.world import ROOT

DOCS = ROOT / "docs"


def test_the_page_shows_what_is_stored() -> None:
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    shown = "\n".join(excerpt(store.read(DOCS).results))
    assert replaced(text, shown) == text
    assert "AcceleratedJob, in place" in shown


def test_a_folder_without_the_page_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, ["x"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\n", id="no mark"),
        pytest.param(f"a\n{BEGIN}b\n", id="no end"),
        pytest.param(f"{END}a\n{BEGIN}b\n", id="the end in front of the beginning"),
        pytest.param(f"{BEGIN}{BEGIN}{END}", id="two beginnings"),
        pytest.param(f"{BEGIN}{END}{END}", id="two ends"),
    ],
)
def test_a_page_without_its_marks_is_refused(text: str, tmp_path: Path) -> None:
    page = tmp_path / PAGE
    page.write_text(text)
    with pytest.raises(ValueError, match=r"fault-tolerance.md must have one line"):
        put(tmp_path, ["x"])
    assert page.read_text() == text
