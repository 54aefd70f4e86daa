"""The outer loop of bench/goodput starts again what fails, and leaves no process behind."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.goodput import processes
from bench.goodput.outer import Broken, Outer, environment
from bench.goodput.peers import CannotInstall, Peer
from bench.goodput.processes import RUN, UNIT
from bench.goodput.systems.system import Command, Setup

# It fails until it was started a number of times, and leaves a child behind each time.
FAILS = """
import subprocess, sys
from pathlib import Path
starts = Path(sys.argv[1], "starts")
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
child = "import signal; print(flush=True); signal.pause()"
subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE).stdout.readline()
sys.exit(len(starts.read_text()) < int(sys.argv[2]))
"""
# It says that it hangs until another pod has no message of it, and needs SIGTERM to end.
HANGS = """
import signal, sys
from pathlib import Path
message, starts = Path(sys.argv[1], "message"), Path(sys.argv[1], "starts")
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
if len(starts.read_text()) == 1:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    message.write_text('{"hang": {"rank": 1}}')
    signal.pause()
sys.exit(message.exists())
"""


@pytest.fixture
def env() -> Iterator[Mapping[str, str]]:
    run = f"run-{os.getpid()}"
    yield environment(run, {})
    assert not processes.of_run(run)


def until_done(outer: Outer) -> None:
    """Tick until all commands have ended well."""
    ends = processes.Ends()
    while not outer.is_done:
        ends.wait(0.02)
        outer.tick(time.monotonic())


def python(folder: Path, program: str, *arguments: str) -> Command:
    argv = (sys.executable, "-c", program, str(folder), *arguments)
    return Command(name="unit", argv=argv)


def test_a_command_is_started_until_it_ends_well_and_its_children_are_killed(
    tmp_path: Path, env: Mapping[str, str]
) -> None:
    with Outer(Setup(units=[python(tmp_path, FAILS, "3")]), tmp_path, env) as outer:
        until_done(outer)
        assert not processes.of_run(env[RUN])
    assert outer.restarts == 2
    assert (tmp_path / "starts").read_text() == "xxx"


def test_a_command_that_says_that_it_hangs_is_ended_and_another_pod_has_no_message(
    tmp_path: Path, env: Mapping[str, str]
) -> None:
    message = tmp_path / "message"
    argv = (sys.executable, "-c", HANGS, str(tmp_path))
    command = Command(name="pod", argv=argv, message=message, fresh=(message,))
    with Outer(Setup(units=[command]), tmp_path, env) as outer:
        until_done(outer)
    assert outer.restarts == 1


def test_units_are_told_apart_and_ended_with_the_run(
    tmp_path: Path, env: Mapping[str, str]
) -> None:
    wait = "import signal; signal.pause()"
    units = [Command(name=name, argv=(sys.executable, "-c", wait)) for name in "ab"]
    with Outer(Setup(units=units), tmp_path, env) as outer:
        # A process that has just begun has no environment yet.
        while len(found := processes.of_run(env[RUN])) < 2:
            time.sleep(0.01)
        assert sorted(one[UNIT] for one in found.values()) == ["a", "b"]
        assert len(processes.of_run(env[RUN], "a")) == 1
        assert not outer.is_done


def test_a_service_that_does_not_listen_is_an_error_that_leaves_nothing(
    tmp_path: Path, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.goodput.outer.PATIENCE", 0.0)
    wait = "import signal; signal.pause()"
    service = Command(name="store", argv=(sys.executable, "-c", wait), port=1)
    with pytest.raises(Broken, match="store must listen at port 1"):
        Outer(Setup(services=[service], units=[]), tmp_path, env).__enter__()


def test_what_is_left_in_memory_is_removed(tmp_path: Path, env: Mapping[str, str]) -> None:
    left = Path("/dev/shm", f"{env[RUN]}-left")  # noqa: S108  # where peers leave files
    left.mkdir()
    setup = Setup(units=[python(tmp_path, FAILS, "1")], leftovers=[f"{env[RUN]}*"])
    with Outer(setup, tmp_path, env) as outer:
        until_done(outer)
    assert not left.exists()


def test_the_environment_has_no_ranks_of_another_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "ACCELERATEDJOB_UID", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "1")
    found = environment("a", {"MORE": "b"})
    assert found[RUN] == "a"
    assert found["MORE"] == "b"
    assert not {"RANK", "WORLD_SIZE", "ACCELERATEDJOB_UID"} & set(found)


def test_a_package_that_does_not_exist_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(CannotInstall, match=r"pip install --quiet nothing==1\.0 must succeed"):
        Peer("nothing", "1.0").python()
