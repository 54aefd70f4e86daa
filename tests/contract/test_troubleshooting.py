"""docs/troubleshooting.md says of every reason what the commands say."""

import re
from pathlib import Path

import pytest

from acceleratedjob import metrics
from acceleratedjob.api.names import Reason
from acceleratedjob.api.reasons import CANNOT_START
from acceleratedjob.commands.advice import ADVICE, EXCEPTIONS, advise

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()


def rows(first: str) -> dict[str, tuple[str, str]]:
    """The table whose first column has this head."""
    (found,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines())
    return {name.strip("`"): (means, todo) for name, means, todo in cells}


def test_the_tables_of_the_page_are_those_of_the_commands() -> None:
    assert rows("reason") == ADVICE
    assert rows("exception") == EXCEPTIONS


def test_every_reason_of_ours_is_explained() -> None:
    assert {*Reason} - ADVICE.keys() == set()


def test_what_never_starts_is_explained() -> None:
    assert CANNOT_START.keys() - ADVICE.keys() == set()


def test_what_is_counted_by_its_reason_is_explained() -> None:
    unexplained = {"DisruptionTarget", "Shutdown", "Terminated"}  # older kubelets', or a type
    assert metrics._REASONS - ADVICE.keys() - unexplained == set()


@pytest.mark.parametrize(
    ("reason", "exception", "begins"),
    [
        pytest.param("OOMKilled", None, "Raise the memory limit", id="by the reason"),
        pytest.param("Error", "torch.OutOfMemoryError", "Lower the batch", id="by the exception"),
        pytest.param("Error", "my.Error", "See the traceback", id="an exception of the user's"),
        pytest.param("Never", None, "", id="a reason that nobody knows"),
        pytest.param("AllReady", None, "", id="a reason for which nothing is to be done"),
    ],
)
def test_what_is_advised(reason: str, exception: str | None, begins: str) -> None:
    advice = advise(reason, exception)
    assert advice.startswith(begins)
    assert bool(advice) == bool(begins)
