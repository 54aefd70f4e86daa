"""`python -m runtime.dump` prints where all ranks of a machine are, and says what it cannot do."""

import contextlib
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runtime import dump
from tests.distributed.world import SCRIPT

PROGRAM = Path(__file__).with_name("standing.py")
LAUNCHER = """
import os, subprocess, sys
ranks = [
    subprocess.Popen([sys.executable, sys.argv[1], what], env=os.environ | {"RANK": str(rank)})
    for rank, what in enumerate(sys.argv[2:])
]
sys.stdin.read()
for rank in ranks:
    rank.kill()
    rank.wait()
"""


@contextlib.contextmanager
def launched(*kinds: str, job: str = "") -> Iterator[int]:
    """Start a launcher with a rank for each kind of standing; yield its process."""
    env = os.environ | SCRIPT | ({"ACCELERATEDJOB_NAME": job} if job else {})
    command = [sys.executable, "-c", LAUNCHER, str(PROGRAM), *kinds]
    with subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdin is not None
        try:
            for _ in (*kinds, *(one for one in kinds if one == "has_a_worker")):
                assert launcher.stdout.readline()  # "ready", or the number of the worker
            yield launcher.pid
        finally:
            launcher.stdin.close()


def printed(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runtime.dump", *arguments],
        env=os.environ | SCRIPT,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def settled(*arguments: str, until: str) -> str:
    """What is printed once the ranks have come to where they stand."""
    shown, end = "", time.monotonic() + 60
    while time.monotonic() < end:
        done = printed(*arguments)
        assert done.returncode == 0, done.stderr
        shown = done.stdout
        if re.search(until, shown, re.DOTALL):
            return shown
    raise AssertionError(shown)


def test_the_ranks_below_a_launcher() -> None:
    """Equal stacks are printed once, the largest group first; a rank without stacks says why."""
    with launched("waits", "loops_in_c", "waits", "has_no_file") as launcher:
        shown = settled(str(launcher), until=r"2 ranks, 0, 2:.*\(waits\).*rank 1:\n.*loops_in_c")
        assert shown.index("2 ranks, 0, 2:") < shown.index("rank 1:") < shown.index("rank 3: ")
        assert re.search(r"rank 3: process \d+ does not write its stacks: .*py-spy dump", shown)
        assert f"{PROGRAM}:" in shown


def test_the_ranks_of_a_job() -> None:
    job = f"job-{uuid.uuid4()}"
    with launched("waits", "waits", job=job), launched("waits", job=f"{job}-other") as other:
        shown = settled("--job", job, until=r"2 ranks, 0-1:")
        assert shown.startswith(f"job {job}\n\n")
        assert "other" not in shown
        assert f"job {job}-other\n" in printed(str(other)).stdout


def test_one_rank() -> None:
    with launched("waits", "has_a_worker") as launcher:
        ranks = dump.ranks_below(launcher)
        assert [one.rank for one in ranks] == [0, 1]  # the worker of rank 1 is no rank
        settled(str(ranks[1].pid), until=r"^rank 1:\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["999999999"], "there is no process 999999999 on this machine"),
        (["--job", "no-such-job"], "there is no process of job no-such-job on this machine"),
        ([], "one of the arguments PID --job is required"),
        (["x"], "invalid int value"),
        (["-3"], "there is no process -3"),
    ],
    ids=str,
)
def test_what_cannot_be_found_is_said(arguments: Sequence[str], sentence: str) -> None:
    done = printed(*arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_without_ranks_is_said() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = printed(str(process.pid))
        assert f"there is no process below {process.pid} on this machine" in done.stderr
        process.communicate(b"\n")


BECOME = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
SEALED = (  # 4: PR_SET_DUMPABLE
    "import ctypes, sys; {become} ctypes.CDLL(None).prctl(4, 0); print(flush=True); "
    "sys.stdin.read()"
)


def said_as_nobody(pid: int, folder: Path) -> str:
    """What is said if the user nobody asks; only root can become it."""
    if os.getuid():
        pytest.skip("only root can become another user")
    done = subprocess.run(
        [sys.executable, "-c", f"from runtime import dump; {BECOME} dump.ranks_below({pid})"],
        env=os.environ | SCRIPT,
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_processes_of_another_user_are_said(tmp_path: Path) -> None:
    with launched("waits") as launcher:
        assert said_as_nobody(launcher, tmp_path) == (
            f"process {launcher} belongs to user 0, and this is user 65534: run this as its user "
            "or as root\n"
        )


def test_a_process_of_the_same_user_that_may_not_be_read_is_not_said_to_be_another_users(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SEALED.format(become="" if os.getuid() else BECOME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        said = said_as_nobody(process.pid, tmp_path)
        process.communicate(b"")
    assert said.startswith(f"process {process.pid} is also a process of user 65534, but the kernel")
    assert "SYS_PTRACE" in said


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([3], "rank 3"),
        ([0, 1], "2 ranks, 0-1"),
        ([0, 1, 2, 5, 7, 8], "6 ranks, 0-2, 5, 7-8"),
    ],
)
def test_ranks_are_named(ranks: Sequence[int], words: str) -> None:
    assert dump._named(ranks) == words


def test_it_needs_no_torch() -> None:
    """So that it answers at once, beside processes that use all memory and cores."""
    ask = "import sys, runtime.dump; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", ask], env=os.environ | SCRIPT, check=True)
