"""A script that is asked to stop ends with a checkpoint and the code 143, whatever it catches."""

import json
import os
import signal
from typing import Any

import pytest

from tests.distributed.world import SCRIPT, forked
from tests.runtime.stopping import ASKED_AT

STOPPED = {"code": 143, "words": {"stopped": {"step": ASKED_AT}}, "checkpoint": ASKED_AT}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each script has left; one run for all tests."""
    folder = tmp_path_factory.mktemp("stopping")
    argv = ["-m", "tests.runtime.stopping", str(folder)]
    (done,) = forked((argv, os.environ | SCRIPT), seconds=600)
    assert done.code == 0, done.err[-5000:]
    found: dict[str, dict[str, Any]] = json.loads(done.out)
    return found


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("plain", id="a script that expects nothing"),
        pytest.param("caught_once", id="a script that catches SystemExit: it is raised again"),
        pytest.param("caught_always", id="a script that always catches it: it is ended"),
        pytest.param("with_a_thread", id="a script with a thread that never ends: it is ended"),
        pytest.param("with_a_handler_that_exits", id="a script whose handler exits with code 0"),
        pytest.param("after_asyncio", id="a script whose event loop has left SIGTERM's default"),
    ],
)
def test_a_stop_ends_the_process(script: str, ends: dict[str, dict[str, Any]]) -> None:
    assert ends[script].items() >= (STOPPED | {"handler": None}).items()


def test_sigterm_ends_a_process_that_has_stopped_and_all_that_it_has_said_is_in_the_log(
    ends: dict[str, dict[str, Any]],
) -> None:
    """The launcher sends it shortly before SIGKILL: the code is 143 in a shell, and not 137."""
    assert ends["slow_to_leave"].items() >= (STOPPED | {"code": -signal.SIGTERM}).items()
    assert "said before the end" in ends["slow_to_leave"]["log"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("with_a_handler", id="one from before the training"),
        pytest.param("with_a_later_handler", id="one that replaces the handler of the loop"),
    ],
)
def test_the_scripts_own_handler_is_called_when_the_checkpoint_is_there(
    script: str, ends: dict[str, dict[str, Any]]
) -> None:
    assert ends[script].items() >= (STOPPED | {"handler": "1"}).items()


def test_a_script_without_epochs_is_told_to_leave_its_loop(
    ends: dict[str, dict[str, Any]],
) -> None:
    assert ends["should_stop"]["code"] == ASKED_AT
    assert ends["should_stop"]["words"] == {"stopped": {}}
