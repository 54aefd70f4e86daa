"""A process that hangs gives its stacks to another one, whatever it does."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.control import asking, frames, stacks
from tests.distributed.world import SCRIPT

PROGRAM = Path(__file__).with_name("standing.py")


@contextlib.contextmanager
def standing(what: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that stands; it is ready."""
    command = [sys.executable, str(PROGRAM), what]
    with subprocess.Popen(
        command, env=os.environ | SCRIPT | env, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def await_function(pid: int, name: str) -> stacks.Dump:
    """Ask until the main thread has come to a function: what it says before that is too early."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        dump = stacks.ask(pid, 20.0)
        if any(frame.function == name for frame in dump.stack):
            return dump
    raise AssertionError(f"process {pid} never came to {name}")


@pytest.mark.parametrize("what", ["waits", "loops_in_c"])
def test_a_process_gives_its_stack(what: str) -> None:
    with standing(what) as process:
        dump = await_function(process.pid, what)
        line = frames.of_script(dump.stack)
        assert line is not None
        assert (line.file, line.function) == (str(PROGRAM), what)
        assert process.poll() is None


def test_a_main_thread_that_faulthandler_leaves_out_is_told() -> None:
    with standing("has_many_threads") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        with pytest.raises(stacks.NoStacks, match="100 threads, the newest first; it wrote 100"):
            stacks.ask(process.pid, 20.0)


def test_every_question_is_answered_anew_and_whole() -> None:
    """Also if several ask at the same time."""
    with standing("waits") as process, ThreadPoolExecutor(4) as pool:
        expected = await_function(process.pid, "waits")
        while (again := stacks.ask(process.pid, 60.0)) != expected:  # it was on its way
            expected = again
        answers = list(pool.map(lambda _: stacks.ask(process.pid, 60.0), range(20)))
        assert answers == [expected] * 20


def test_a_stopped_process_is_told_from_one_that_is_busy() -> None:
    with standing("waits") as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with pytest.raises(stacks.Stopped, match="stopped by a signal"):
            stacks.ask(process.pid)
        assert "stopped by a signal" in asking.report_of(process.pid).excuse
        process.send_signal(signal.SIGCONT)
        assert asking.report_of(process.pid, 20.0).stack


def test_a_process_that_has_ended_is_told() -> None:
    with standing("waits") as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(stacks.Stopped, match="has ended"):
            stacks.ask(process.pid)
    with pytest.raises(stacks.NoProcess, match=f"there is no process {process.pid}"):
        stacks.ask(process.pid)


def test_a_process_without_a_file_is_never_signalled() -> None:
    """The signal would end it."""
    with standing("has_no_file") as process:
        with pytest.raises(stacks.NotInstalled, match=f"py-spy dump --pid {process.pid}"):
            stacks.ask(process.pid)
        assert process.poll() is None


def test_a_forked_worker_does_not_answer_for_its_parent() -> None:
    with standing("has_a_worker") as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        with pytest.raises(stacks.NotInstalled):
            stacks.ask(worker)
        await_function(process.pid, "has_a_worker")


def test_the_scripts_own_handlers_stay() -> None:
    with standing("uses_signals_itself") as process:
        await_function(process.pid, "waits")


def test_a_process_that_blocks_the_signal_is_given_up() -> None:
    with standing("blocks_all_signals") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        with pytest.raises(stacks.NoStacks, match=r"in 0.1 s: its main thread blocks signal \d+"):
            stacks.ask(process.pid, 0.1)


def test_a_file_that_another_process_reads_or_has_broken_is_given_up() -> None:
    with standing("waits") as process:
        file = stacks._found(Path("/proc", str(process.pid)))
        assert file is not None
        descriptor = os.open(file, os.O_RDWR)
        try:
            stacks._lock(descriptor, 0.0)
            with pytest.raises(stacks.NoStacks, match="another process reads"):
                stacks.ask(process.pid, 0.05)
            os.truncate(descriptor, 0)
            os.write(descriptor, b"{}\n")
        finally:
            os.close(descriptor)
        with pytest.raises(stacks.NoStacks, match="no valid header"):
            stacks.ask(process.pid)


def test_a_process_of_another_user_is_told(tmp_path: Path) -> None:
    """Asked as a user who may not."""
    if os.getuid():
        pytest.skip("only root can become another user")
    ask = (
        "import os, sys; from runtime.control import stacks; os.setgroups([]); os.setgid(65534); "
        "os.setuid(65534)\ntry: stacks.ask(int(sys.argv[1]))\n"
        "except stacks.NotOurs as error: print(error)"
    )
    with standing("waits") as process:
        done = subprocess.run(
            [sys.executable, "-c", ask, str(process.pid)],
            env=os.environ | SCRIPT,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=True,
        )
    assert "belongs to another user" in done.stdout


def test_a_thread_tells_where_its_process_is() -> None:
    """And in the same words as the process itself by a signal."""

    def here() -> stacks.Dump:
        return stacks.here()

    with ThreadPoolExecutor(1) as pool:
        dump = pool.submit(here).result()
    functions = [frame.function for frame in dump.stack]
    assert "test_a_thread_tells_where_its_process_is" in functions
    threads = {one.ident for one in dump.threads}
    assert threads >= {one.ident for one in threading.enumerate() if not one.daemon}


def test_both_ways_give_equal_stacks() -> None:
    ask = (
        "import threading; from runtime.control import stacks, asking; import os\n"
        "stacks.install()\n"
        "def main():\n"
        "    asked = threading.Thread(target=compare)\n"
        "    asked.start(); asked.join()\n"
        "def compare():\n"
        "    same = (stacks.ask(os.getpid()).stack == stacks.here().stack for _ in range(99))\n"
        "    print(any(same))  # the main thread may still move from start() to join()\n"
        "main()\n"
    )
    command = [sys.executable, "-c", ask]
    done = subprocess.run(
        command, env=os.environ | SCRIPT, text=True, capture_output=True, check=True
    )
    assert done.stdout == "True\n", done.stderr
