"""Launchers that start their processes again in place: real launchers, scripts without torch."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.world import ROOT

SECONDS = 120.0  # longer than any of this takes
PRELUDE = """
import os, pathlib, signal, subprocess, sys, time
here, rank = pathlib.Path.cwd(), os.environ["RANK"]
start = len(list(here.glob(f"start.{rank}.*")))
(here / f"start.{rank}.{start}").write_text(os.environ.get("ACCELERATEDJOB_LIFE", ""))
def until(*words):
    while not all((here / word).exists() for word in words): time.sleep(0.01)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
"""
# All are there before one is killed; the others never end by themselves.
KILLED_ONCE = """
until("start.0.0", "start.1.0")
if start == 0:
    if rank == "1": kill()
    time.sleep(600)
"""


class Pods:
    """The launchers of the pods of a job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        clean = ("ACCELERATEDJOB_", "PET_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(clean)}
        self.env |= {"PYTHONPATH": str(ROOT), "ACCELERATEDJOB_IN_PLACE_RESTARTS": "2"}
        self.env |= {"PET_MASTER_PORT": str(free_port())}
        self.env |= {"ACCELERATEDJOB_PROGRESS_PORT": str(free_port())}

    def start(
        self,
        script: str,
        *,
        pods: int = 1,
        processes: int = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        (self.folder / "train.py").write_text(PRELUDE + textwrap.dedent(script))
        command = [sys.executable, "-m", "runtime.launch", "train.py"]
        for replica in range(pods):
            own = {"PET_NNODES": str(pods), "PET_NODE_RANK": str(replica)}
            own |= {"PET_NPROC_PER_NODE": str(processes)}
            self.running.append(
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self.env | own | dict(env or {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )

    def ended(self) -> list[tuple[int, str]]:
        """The exit codes and the outputs of the launchers."""
        outputs = [one.communicate(timeout=SECONDS)[0] for one in self.running]
        return [(p.returncode, out) for p, out in zip(self.running, outputs, strict=True)]

    def starts(self, rank: int) -> list[str]:
        """The names of the lives in which a rank was started, in order."""
        return [one.read_text() for one in sorted(self.folder.glob(f"start.{rank}.*"))]


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path)
    yield made
    for one in made.running:
        if one.poll() is None:
            one.kill()
        one.__exit__(None, None, None)  # closes the pipes


@pytest.mark.parametrize(
    ("number", "processes"),
    [pytest.param(1, 2, id="one pod"), pytest.param(2, 1, id="two pods")],
)
def test_when_a_process_is_killed_all_are_started_again(
    pods: Pods, number: int, processes: int
) -> None:
    pods.start(KILLED_ONCE, pods=number, processes=processes)
    for code, output in pods.ended():
        assert code == 0, output
        assert "life 1 begins in place" in output
    assert [len(pods.starts(rank)) for rank in (0, 1)] == [2, 2]
    first, second = pods.starts(0)  # rank 0 tells the others which life it is
    assert first != second


def test_nothing_of_the_old_life_is_left_when_the_next_one_begins(pods: Pods) -> None:
    pods.start(
        """
        if start == 0:
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            (here / "child").write_text(str(child.pid))
            kill()
        alive = os.path.exists(f"/proc/{(here / 'child').read_text()}")
        print("alive", alive)
        """
    )
    [(code, output)] = pods.ended()
    assert code == 0
    assert "alive False" in output


def test_after_the_last_restart_the_pod_ends_with_the_first_cause(pods: Pods) -> None:
    pods.start("kill()")
    [(code, output)] = pods.ended()
    assert code == 137
    assert len(pods.starts(0)) == 3
    assert "not started again in place: the pods have restarted 2 times in place" in output


@pytest.mark.parametrize(
    ("script", "env", "why", "code"),
    [
        pytest.param("sys.exit(3)", {}, "no step was completed", 3, id="an error at the start"),
        pytest.param(
            "kill()",
            {"ACCELERATEDJOB_FAIL_EXIT_CODES": "5,137"},
            "the failure policy fails the job after exit code 137",
            137,
            id="an exit code after which the job fails",
        ),
        pytest.param("kill()", {"ACCELERATEDJOB_IN_PLACE_RESTARTS": "0"}, "", 137, id="off"),
        pytest.param("sys.exit(143)", {}, "", 143, id="a stop"),
        pytest.param("sys.exit(0)", {}, "", 0, id="success"),
    ],
)
def test_it_is_not_started_again_after(
    pods: Pods, script: str, env: dict[str, str], why: str, code: int
) -> None:
    pods.start(script, env=env)
    [(found, output)] = pods.ended()
    assert found == code
    assert why in output
    assert len(pods.starts(0)) == 1


def test_a_pod_that_is_asked_to_stop_is_not_started_again(pods: Pods) -> None:
    pods.start("signal.signal(15, lambda *_: kill())\n(here / 'up').touch()\ntime.sleep(600)")
    while not (pods.folder / "up").exists():
        assert pods.running[0].poll() is None
    pods.running[0].send_signal(signal.SIGTERM)
    assert pods.ended()[0][0] == 137
    assert len(pods.starts(0)) == 1


def test_without_the_launcher_of_another_pod_nothing_is_started_again(pods: Pods) -> None:
    pods.start(
        """
        (here / f"up.{rank}").touch()
        until("lost")
        kill()
        """,
        pods=2,
    )
    while not all((pods.folder / f"up.{rank}").exists() for rank in (0, 1)):
        assert pods.running[0].poll() is None
    pods.running[1].kill()
    pods.running[1].wait()
    (pods.folder / "lost").touch()
    (code, output), _ = pods.ended()
    assert code == 137
    assert "the launchers of replicas [1] are not connected" in output


def test_the_termination_message_is_that_of_the_last_life(pods: Pods) -> None:
    message = pods.folder / "termination-log"
    env = {
        "ACCELERATEDJOB_REPLICAS": "1",
        "ACCELERATEDJOB_TERMINATION_LOG": str(message),
        "ACCELERATEDJOB_IN_PLACE_RESTARTS": "1",
    }
    pods.start(
        """
        print("before", (here / "termination-log").read_text() if start else "", flush=True)
        kill()
        """,
        env=env,
    )
    [(code, output)] = pods.ended()
    assert code == 137
    assert output.count("before") == 2
    assert "before {" not in output
    assert json.loads(message.read_text())["exception"] == "killed by SIGKILL"
