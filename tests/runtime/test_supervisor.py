"""The launcher with real processes: whatever happens to it or to them, it ends, and they do."""

import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.launch import processes
from runtime.launch.counting import count

ROOT = Path(__file__).parents[2]
SECONDS = 300  # until a test gives up
LONG = 600.0  # seconds that no test takes
# In each: `here` is the test's folder; `say` tells the test that a process is at a place.
PRELUDE = """
    import os, pathlib, signal, subprocess, sys, time
    here, rank = pathlib.Path(__file__).parent, os.environ["RANK"]
    def say(word):
        part = here / f"{rank}.{word}.part"
        part.write_text(str(os.getpid()))
        part.rename(here / f"{rank}.{word}")
    def until(*words):
        while not all((here / word).exists() for word in words): time.sleep(0.01)
    def until_reaped(word):
        process = pathlib.Path("/proc", (here / word).read_text())
        while process.exists(): time.sleep(0.01)
    def on(name, word, code=None):
        def act(*_):
            with open(here / f"{rank}.{word}", "a") as file: file.write(f"{name}\\n")
            if code is not None: sys.exit(code)
        signal.signal(getattr(signal, name), act)
    def start(code, **options):
        return subprocess.Popen([sys.executable, "-c", code], **options)
"""
# The launcher with short times and another control channel.
DRIVER = """
    import os, sys, time, pathlib
    from runtime.launch import deadlines, supervisor
    from runtime.launch.__main__ import main
    from runtime.launch.hosting import NoControl
    here = pathlib.Path({folder!r})
    deadlines.FAILING_SECONDS = supervisor.FOLLOWING_SECONDS = {seconds}
    deadlines.TERMINATING_SECONDS = {terminating}
    def note(word):
        with open(here / "control", "a") as file: file.write(f"{{word}}\\n")
    class Control(NoControl):
        {control}
    main(lambda *_: Control())
"""
# Short sleeps: a signal that comes before a long one begins would be handled at its end.
WAITS = "say('up')\nwhile True: time.sleep(0.05)"
FAMILY = """
    forks = "import os,signal,sys,time;signal.signal(15, signal.SIG_IGN);"
    forks += "open(%r,'w').write(str(os.getpid()));time.sleep(600)"
    for where in (False, True):  # in the session of the process, and in one of its own
        start(forks % str(here / f"{rank}.child{int(where)}"), start_new_session=where)
    until(f"{rank}.child0", f"{rank}.child1")
    while not all((here / f"{rank}.child{n}").read_text() for n in (0, 1)): time.sleep(0.01)
"""

PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
root = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0,
    reason="NOT TESTED: the launcher as PID 1, which needs root on Linux (unshare --pid)",
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells when a parent ends")


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def heeds_all() -> None:
    """Ignore no signal: a shell without job control has background jobs ignore some."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Launch:
    """A launcher that runs a script in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        for name in list(self.env):
            if name.startswith(("ACCELERATEDJOB_", "PET_")) or name in ("RANK", "WORLD_SIZE"):
                del self.env[name]
        self.env["ACCELERATEDJOB_STOP_GRACE_SECONDS"] = f"{LONG:.0f}"
        self.has_own_pids = False  # those of a namespace, which mean others here
        self.running: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        *scripts: str,
        flags: str = "",
        control: str = "pass",
        seconds: float = 0.3,
        terminating: float = 0.3,
        before: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start the launcher, whose processes have some seconds to follow, and to terminate."""
        text = "\n".join(textwrap.dedent(part) for part in (PRELUDE, *scripts))
        (self.folder / "train.py").write_text(text)
        inside = textwrap.indent(textwrap.dedent(control), " " * 8).strip()
        driver = DRIVER.format(
            folder=str(self.folder), seconds=seconds, terminating=terminating, control="{control}"
        )
        driver = textwrap.dedent(driver).replace(
            "{control}", inside.replace("\n        ", "\n    ")
        )
        command = [*before, sys.executable, "-c", driver, *flags.split()]
        self.has_own_pids |= before[: len(PID_1)] == PID_1
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        process = subprocess.Popen(
            [*command, str(self.folder / "train.py")],
            env=self.env | dict(env or {}),
            preexec_fn=heeds_all,  # noqa: PLW1509  # it calls no more than signal(2)
            **pipes,
        )
        self.running.append(process)
        return process

    def has(self, *words: str) -> None:
        """Wait until the processes have said all words."""
        until(lambda: all((self.folder / word).exists() for word in words))

    def lines(self, word: str) -> list[str]:
        path = self.folder / word
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> Iterator[int]:
        for path in self.folder.glob("[0-9].*"):
            if (text := path.read_text()).isdecimal():
                yield int(text)

    def left(self) -> list[int]:
        return [] if self.has_own_pids else [pid for pid in self.pids() if lives(pid)]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """A launcher that has ended at the end, and of whose processes none is left."""
    made = Launch(tmp_path)
    yield made
    still = [process for process in made.running if process.poll() is None]
    left = made.left()
    for process in still:
        process.kill()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in made.running:
        process.__exit__(None, None, None)  # closes the pipes
    assert not still
    assert not left


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, output.decode()


CODE_143 = "sys.exit(143)"
BY_KILL = "os.kill(os.getpid(), 9)"
BY_TERM = "os.kill(os.getpid(), 15)"


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        pytest.param([""], 0, id="one that succeeds"),
        pytest.param(["sys.exit(3)"], 3, id="one that fails"),
        pytest.param([BY_KILL], 137, id="one that is killed"),
        pytest.param([CODE_143], 143, id="one that was stopped"),
        pytest.param([BY_TERM], 143, id="one that SIGTERM has ended"),
        pytest.param([CODE_143, ""], 143, id="a stopped one and one that was done"),
        pytest.param([f"say('up')\n{CODE_143}", "behind_0(3)"], 3, id="the other one's code"),
        pytest.param(["until('1.late')", "say('late')"], 0, id="all are waited for"),
        pytest.param(["say('up')\nos._exit(4)", "behind_0(5)"], 4, id="the first failure's code"),
    ],
)
def test_the_exit_code_is_that_of_the_processes(launch: Launch, ends: list[str], code: int) -> None:
    script = "def behind_0(code): until('0.up'); until_reaped('0.up'); sys.exit(code)\n"
    script += f"exec({ends!r}[int(rank)])"
    process = launch(script, flags=f"--nproc-per-node {len(ends)}", seconds=LONG)
    found, output = ended(process)
    assert found == code, output


def test_the_only_process_reads_what_the_launcher_gets(launch: Launch) -> None:
    process = launch("print(sys.stdin.read())", stdin=subprocess.PIPE)
    assert process.communicate(b"typed", timeout=SECONDS)[0] == b"typed\n"


def test_several_processes_read_nothing(launch: Launch) -> None:
    process = launch("print([sys.stdin.read()])", flags="--nproc-per-node 2", stdin=subprocess.PIPE)
    assert process.communicate(b"typed", timeout=SECONDS)[0] == b"['']\n['']\n"


def test_a_terminal_stays_a_terminal(launch: Launch) -> None:
    ours, theirs = pty.openpty()
    try:
        process = launch(
            "say(f'{sys.stdin.isatty()}{sys.stdout.isatty()}')", stdin=theirs, stdout=theirs
        )
        assert process.wait(SECONDS) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    launch.has("0.TrueTrue")


@on_linux
def test_a_key_in_the_terminal_interrupts_the_processes_once(launch: Launch) -> None:
    """It interrupts the launcher, which passes it on, and not their session."""
    ours, theirs = pty.openpty()
    try:
        script = "on('SIGINT', 'got')\nsay('up')\nuntil('go')\n"
        script += "sys.exit(os.getsid(0) != os.getpid())"  # two signals at once would be one
        process = launch(script, before=("setsid", "--ctty"), stdin=theirs)
        launch.has("0.up")
        os.write(ours, b"\x03")
        launch.has("0.got")
        time.sleep(0.3)  # for what must not happen
        (launch.folder / "go").touch()
        assert process.wait(SECONDS) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert launch.lines("0.got") == ["SIGINT"]


def test_when_one_is_stopped_by_another_the_rest_is_stopped(launch: Launch) -> None:
    """A rank may wait for the one that has ended, in a rendezvous for half an hour."""
    script = """
        if rank == "0": say("up"); time.sleep(600)
        until("0.up")
        os.kill(os.getpid(), signal.SIGTERM)
    """
    process = launch(script, flags="--nproc-per-node 2")
    assert process.wait(SECONDS) == 143
    assert not launch.left()


def test_a_hundred_megabytes_of_output_arrive_unchanged(launch: Launch) -> None:
    script = """
        block = bytes(range(256)) * 4096
        for _ in range(100): sys.stdout.buffer.write(block)
    """
    process = launch(script, stderr=None)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert len(output) == 100 * 2**20
    assert hashlib.sha256(output).digest() == hashlib.sha256(bytes(range(256)) * 409600).digest()


@pytest.mark.parametrize(
    ("other", "says", "seconds", "asked"),
    [
        pytest.param(
            "on('SIGTERM', 'asked')\nsay('up')\nuntil_reaped('1.gone')\nprint('I see why')\n"
            "sys.exit(9)",
            "I see why",
            (LONG, LONG),
            [[]],
            id="has time to fail by itself",
        ),
        pytest.param(
            f"on('SIGTERM', 'asked', 143)\n{WAITS}",
            "",
            (0.3, LONG),
            [["SIGTERM"]],
            id="is asked",
        ),
        pytest.param(
            f"on('SIGTERM', 'asked')\n{WAITS}",
            "another process had failed before",
            (0.3, 0.3),
            [["SIGTERM"] * times for times in range(3)],
            id="is killed at last",
        ),
    ],
)
def test_when_one_fails_the_other(
    launch: Launch, other: str, says: str, seconds: tuple[float, float], asked: list[list[str]]
) -> None:
    """How often one is asked that is killed soon depends on how busy the machine is."""
    one = "if rank == '1':\n    say('gone')\n    until('0.up')\n    sys.exit(4)\nuntil('1.gone')\n"
    process = launch(
        one,
        other,
        flags="--nproc-per-node 2",
        seconds=seconds[0],
        terminating=seconds[1],
    )
    code, output = ended(process)
    assert code == 4, output
    assert says in output
    assert "rank 1" in output
    assert launch.lines("0.asked") in asked


@pytest.mark.parametrize("flags", ["", "--nproc-per-node 2"])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param(f"on('SIGTERM', 'asked', 143)\n{WAITS}", 143, id="saves and exits"),
        pytest.param(WAITS, 143, id="ends by the signal"),
        pytest.param(f"on('SIGTERM', 'asked', 0)\n{WAITS}", 0, id="is done just then"),
    ],
)
def test_a_sigterm_is_passed_on_once(launch: Launch, script: str, code: int, flags: str) -> None:
    ups = ["0.up", "1.up"] if flags else ["0.up"]
    process = launch(script, flags=flags)
    launch.has(*ups)
    process.send_signal(signal.SIGTERM)
    found, output = ended(process)  # long before the end of the grace period
    assert found == code, output
    for up in ups:
        assert launch.lines(f"{up[0]}.asked") == ["SIGTERM"] * ("asked" in script)


def test_a_training_behind_a_shell_may_use_the_grace_period(launch: Launch) -> None:
    """The shell dies of the SIGTERM at once; others would have `terminating` seconds after it."""
    script = "on('SIGTERM', 'asked')\nsay('up')\nuntil('0.asked'); time.sleep(0.8); say('saved')"
    shell = launch.folder / "run.sh"
    shell.write_text(f"#!/bin/sh\n{sys.executable} {launch.folder / 'train.py'}\ntrue\n")
    shell.chmod(0o700)
    process = launch(script, flags=f"--no-python {shell}")
    launch.has("0.up")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    launch.has("0.saved")


def test_a_second_sigterm_shortens_nothing(launch: Launch) -> None:
    script = "on('SIGTERM', 'asked')\nsay('up')\nuntil('go')\nsays = say('saved')\nsys.exit(143)"
    process = launch(script)
    launch.has("0.up")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        launch.has("0.asked")
        time.sleep(0.1)  # for what must not happen
    (launch.folder / "go").touch()
    assert ended(process)[0] == 143
    assert launch.lines("0.asked") == ["SIGTERM"]
    launch.has("0.saved")


def test_at_the_end_of_the_grace_period_what_still_runs_is_killed(launch: Launch) -> None:
    env = {"ACCELERATEDJOB_STOP_GRACE_SECONDS": "1"}
    process = launch(FAMILY, f"signal.signal(15, signal.SIG_IGN)\n{WAITS}", env=env)
    launch.has("0.up")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 137
    assert "near the end of the grace period of 1 s" in output
    assert time.monotonic() - began > 0.7


def test_a_process_that_only_has_to_leave_gets_sigterm_once_more_before_it_is_killed(
    launch: Launch,
) -> None:
    """It has restored the default of SIGTERM when all was said."""
    control = """
        def start(self):
            deadlines._AGAIN_MARGIN = 600.0  # at most half of the time: 3.5 s
            return {}
    """
    process = launch(
        f"signal.signal(15, lambda *_: signal.signal(15, signal.SIG_DFL))\n{WAITS}",
        control=control,
        env={"ACCELERATEDJOB_STOP_GRACE_SECONDS": "8"},
    )
    launch.has("0.up")
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 143
    assert "killing" not in output


ATTENDED = """
    def notice(self, seconds_left, why):
        note(f"{seconds_left:.0f} {why}")
        return True
"""


def test_processes_that_attend_get_no_sigterm(launch: Launch) -> None:
    script = "on('SIGTERM', 'asked')\nsay('up')\nuntil('go')\nsys.exit(143)"
    process = launch(script, control=ATTENDED, flags="--nproc-per-node 2")
    launch.has("0.up", "1.up")
    process.send_signal(signal.SIGTERM)
    launch.has("control")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # for what must not happen
    (launch.folder / "go").touch()
    assert ended(process)[0] == 143
    assert launch.lines("control") == ["597 the pod has got SIGTERM"]
    assert launch.lines("0.asked") == []


# SIGTERM comes a second after the notice, another one two seconds before SIGKILL.
SOON = """
    def start(self):
        grace = float(os.environ["ACCELERATEDJOB_STOP_GRACE_SECONDS"])
        deadlines._TERM_MARGIN, deadlines._MOST_OF_GRACE = grace - 1, 1.0
        deadlines._AGAIN_MARGIN = 2.0
        return {}
"""


@pytest.mark.parametrize(
    ("handler", "grace", "code", "asked"),
    [
        pytest.param("on('SIGTERM', 'asked', 143)", LONG, 143, [1], id="SIGTERM"),
        pytest.param("on('SIGTERM', 'asked')", 6, 137, [1, 2], id="SIGTERM twice, then SIGKILL"),
    ],
)
def test_who_attends_and_does_not_end_gets_near_the_deadline(
    launch: Launch, handler: str, grace: float, code: int, asked: list[int]
) -> None:
    """On a machine that stands still for seconds, the second SIGTERM comes with the SIGKILL."""
    env = {"ACCELERATEDJOB_STOP_GRACE_SECONDS": f"{grace:.0f}"}
    process = launch(handler, WAITS, control=ATTENDED + SOON, env=env)
    launch.has("0.up")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    launch.has("0.asked")
    assert time.monotonic() - began > 0.9
    assert ended(process)[0] == code
    assert launch.lines("0.asked") in [["SIGTERM"] * times for times in asked]


def test_a_channel_that_fails_does_not_keep_a_pod_from_stopping(launch: Launch) -> None:
    control = "def notice(self, seconds_left, why): raise RuntimeError('lost')"
    process = launch(f"on('SIGTERM', 'asked', 143)\n{WAITS}", control=control)
    launch.has("0.up")
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)  # long before the end of the grace period
    assert code == 143
    assert "RuntimeError: lost" in output


def test_the_others_need_not_wait_for_a_pod_that_has_ended(launch: Launch) -> None:
    """The launcher of replica 0 is connected for some seconds longer, and would not answer."""
    control = """
        def retire(self): note("retired")
        def close(self): note("closed")
    """
    process = launch("", control=control, env={"ACCELERATEDJOB_IN_PLACE_RESTARTS": "1"})
    assert ended(process)[0] == 0
    assert launch.lines("control") == ["retired", "closed"]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_another_signal_is_passed_on_as_it_is(launch: Launch, name: str) -> None:
    process = launch(f"on({name!r}, 'got', 5)\n{WAITS}")
    launch.has("0.up")
    process.send_signal(getattr(signal, name))
    assert ended(process)[0] == 5
    assert launch.lines("0.got") == [name]


def test_an_interrupt_is_an_interrupt_and_another_one_kills(launch: Launch) -> None:
    process = launch(FAMILY, "on('SIGINT', 'got')\nsay('up')\nwhile True: time.sleep(0.05)")
    launch.has("0.up")
    process.send_signal(signal.SIGINT)
    launch.has("0.got")
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 137


def test_an_ignored_signal_stays_ignored(launch: Launch) -> None:
    """As under `nohup`."""
    process = launch(f"say(signal.getsignal(signal.SIGHUP).name)\n{WAITS}", before=("nohup",))
    launch.has("0.SIG_IGN", "0.up")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143


STARTING = """
    def start(self):
        note("starting")
        while not (here / "go").exists(): time.sleep(0.01)
        return {}
    def close(self): note("closed")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_pod_that_is_stopped_before_it_starts_starts_nothing(launch: Launch, name: str) -> None:
    process = launch("say('up')", control=STARTING)
    launch.has("control")
    process.send_signal(getattr(signal, name))
    (launch.folder / "go").touch()
    assert ended(process)[0] == 128 + getattr(signal, name)
    assert launch.lines("control") == ["starting", "closed"]
    assert not list(launch.pids())


@pytest.mark.parametrize("delay", [n * 0.05 for n in range(6)])
def test_a_sigterm_at_any_instant_ends_all(launch: Launch, delay: float) -> None:
    env = {"ACCELERATEDJOB_STOP_GRACE_SECONDS": "10"}  # for the children of those that end
    process = launch(FAMILY, WAITS, flags="--nproc-per-node 2", env=env)
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] in (143, -signal.SIGTERM)


HOSTED = """
    def start(self):
        note("start")
        return {"FROM_HOST": "x"}
    def close(self): note("close " + ("late" if (here / "0.late").exists() else "early"))
"""


@pytest.mark.parametrize("last", ["", "sys.exit(1)", BY_KILL])
def test_a_host_lives_as_long_as_the_processes(launch: Launch, last: str) -> None:
    script = f"time.sleep(0.2)\nassert os.environ['FROM_HOST'] == 'x'\nsay('late')\n{last}"
    ended(launch(script, control=HOSTED))
    assert launch.lines("control") == ["start", "close late"]


def test_a_host_that_cannot_start_ends_the_launcher_before_the_processes(launch: Launch) -> None:
    code, output = ended(launch("say('up')", control="def start(self): raise RuntimeError('why')"))
    assert (code, "RuntimeError: why" in output) == (1, True)
    assert not list(launch.pids())


def test_an_error_of_the_launcher_ends_everything(launch: Launch) -> None:
    control = """
        def start(self):
            def fail(*_):
                while not (here / "0.up").exists(): time.sleep(0.01)
                raise RuntimeError("a mistake")
            supervisor.Supervisor.wait = fail
            return {}
        def close(self): note("closed")
    """
    code, output = ended(launch(FAMILY, WAITS, control=control))
    assert (code, "RuntimeError: a mistake" in output) == (1, True)
    assert launch.lines("control") == ["closed"]


@pytest.mark.parametrize(
    ("last", "code"),
    [("", 0), ("sys.exit(3)", 3), (BY_KILL, 137), (CODE_143, 143)],
    ids=["succeeds", "fails", "is killed", "is stopped"],
)
def test_what_a_process_leaves_behind_is_ended(launch: Launch, last: str, code: int) -> None:
    """It also holds the pipe, whose end `ended` waits for, and ignores SIGTERM."""
    found, output = ended(launch(FAMILY, last))
    assert found == code, output
    assert len(list(launch.pids())) == 2


def test_what_is_left_behind_is_asked_before_it_is_killed(launch: Launch) -> None:
    script = """
        child = "import signal,sys,time;signal.signal(15, lambda *_: sys.exit(print('bye')));"
        child += f"print('up', flush=True);open({str(here / 'ready')!r}, 'w').close()"
        start(child + "\\nwhile True: time.sleep(0.05)", start_new_session=True)
        until("ready")
    """
    code, output = ended(launch(script, terminating=LONG))
    assert code == 0
    assert output.split() == ["up", "bye"]


@on_linux
def test_when_the_launcher_is_killed_the_processes_die(launch: Launch) -> None:
    process = launch(WAITS, flags="--nproc-per-node 2")
    launch.has("0.up", "1.up")
    process.kill()
    process.communicate(timeout=SECONDS)
    until(lambda: not launch.left())


def test_a_program_that_is_not_there_is_named(launch: Launch) -> None:
    code, output = ended(launch(flags="--no-python ./nothere"))
    assert code == 127
    assert "runtime.launch: './nothere' cannot be started: No such file or directory" in output


IGNORED = "grep SigIgn /proc/self/status"


@on_linux
@pytest.mark.parametrize("before", [(), ("nohup",)], ids=["by default", "under nohup"])
@pytest.mark.parametrize(
    "wrapped", [pytest.param((), id="elsewhere"), pytest.param(PID_1, id="PID 1", marks=root)]
)
def test_a_program_ignores_the_signals_that_it_would_ignore_without_the_launcher(
    launch: Launch, before: tuple[str, ...], wrapped: tuple[str, ...]
) -> None:
    """Python ignores SIGPIPE, which a shell would inherit."""
    done = subprocess.run([*before, *IGNORED.split()], capture_output=True, text=True, check=True)
    _, output = ended(launch(flags=f"--no-python {IGNORED}", before=(*wrapped, *before)))
    alone, launched = (text.split("SigIgn:\t")[1][:16] for text in (done.stdout, output))
    # Two signals of glibc's own; and SIGQUIT, by which ranks are asked for their stacks.
    others = ~(3 << 31 | 1 << signal.SIGQUIT - 1)
    assert int(launched, 16) & others == int(alone, 16) & others


def test_what_cannot_be_killed_is_given_up(launch: Launch) -> None:
    """A process that waits for a broken device; here SIGKILL is not sent."""
    control = """
        def start(self):
            deadlines._GIVE_UP_SECONDS = 0.2
            supervisor.processes.send = lambda targets, number: None
            return {}
    """
    env = {"ACCELERATEDJOB_STOP_GRACE_SECONDS": "0"}
    process = launch(WAITS, control=control, env=env)
    launch.has("0.up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 137
    (pid,) = launch.pids()
    until(lambda: not lives(pid))  # the kernel ends it with the launcher
    output, _ = process.communicate()
    assert f"processes [{pid}] cannot be killed" in output.decode()


def test_nobody_reads_the_log_any_more(launch: Launch) -> None:
    process = launch(
        f"signal.signal(15, signal.SIG_IGN)\n{WAITS}",
        flags="--nproc-per-node 2",
        env={"ACCELERATEDJOB_STOP_GRACE_SECONDS": "1"},
    )
    launch.has("0.up", "1.up")
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 137


IN_A_JOB = {"ACCELERATEDJOB_REPLICAS": "1", "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "2"}


@pytest.mark.parametrize(
    ("script", "env", "words"),
    [
        pytest.param(
            f"if rank == '1': {BY_KILL}",
            IN_A_JOB,
            {
                "exception": "killed by SIGKILL",
                "message": "the kernel does this if memory runs out",
                "rank": 1,
            },
            id="of a killed process, the launcher's",
        ),
        pytest.param(
            f"if rank == '1': words.write_text('mine'); {BY_KILL}",
            IN_A_JOB,
            "mine",
            id="of a process that wrote one, its own",
        ),
        pytest.param(
            "os._exit(3)", IN_A_JOB, "", id="of one that exits, none: the log's end says more"
        ),
        pytest.param(f"if rank == '1': {BY_KILL}", {}, "", id="outside of a job, none"),
        pytest.param(BY_TERM, IN_A_JOB, "", id="of one that was stopped, none"),
    ],
)
def test_the_termination_message(
    launch: Launch, script: str, env: dict[str, str], words: object
) -> None:
    path = launch.folder / "words"
    path.touch()
    named = env | {"ACCELERATEDJOB_TERMINATION_LOG": str(path)}
    ended(launch(f"words = here / 'words'\n{script}", flags="--nproc-per-node 2", env=named))
    found = path.read_text()
    assert (json.loads(found) if isinstance(words, dict) else found) == words


def test_the_message_says_that_the_launcher_has_killed(launch: Launch) -> None:
    path = launch.folder / "words"
    env = IN_A_JOB | {
        "ACCELERATEDJOB_TERMINATION_LOG": str(path),
        "ACCELERATEDJOB_STOP_GRACE_SECONDS": "1",
    }
    process = launch(f"signal.signal(15, signal.SIG_IGN)\n{WAITS}", env=env)
    launch.has("0.up")
    process.send_signal(signal.SIGTERM)
    ended(process)
    said = "the launcher did this: it still ran near the end of the grace period of 1 s"
    assert json.loads(path.read_text())["message"] == said


# As the first process of a container.


def as_pid_1(launch: Launch, *scripts: str, **options: Any) -> "subprocess.Popen[bytes]":
    return launch(*scripts, before=PID_1, **options)


def init(process: "subprocess.Popen[bytes]") -> int:
    """The PID, seen from here, of the PID 1 that `unshare` has started."""
    (pid,) = [pid for pid, parent in processes._parents() if parent == process.pid]
    return pid


@root
@pytest.mark.parametrize(
    ("last", "code"), [("", 0), ("sys.exit(3)", 3), (BY_KILL, 137), (CODE_143, 143)]
)
def test_pid_1_has_the_exit_code_of_the_processes(launch: Launch, last: str, code: int) -> None:
    found, output = ended(as_pid_1(launch, f"assert os.getppid() == 1\n{last}"))
    assert found == code, output


@root
@pytest.mark.parametrize(
    ("handler", "grace", "code"),
    [
        ("on('SIGTERM', 'asked', 143)", LONG, 143),
        ("", 4, 143),  # by default action, which PID 1 itself would not have; its children stay
        ("on('SIGTERM', 'asked')", 2, 137),
    ],
)
def test_pid_1_turns_a_sigterm_into_an_end(
    launch: Launch, handler: str, grace: float, code: int
) -> None:
    env = {"ACCELERATEDJOB_STOP_GRACE_SECONDS": f"{grace:.0f}"}
    process = as_pid_1(launch, FAMILY, handler, WAITS, env=env)
    launch.has("0.up")
    os.kill(init(process), signal.SIGTERM)
    assert ended(process)[0] == code


@root
def test_pid_1_reaps_orphans(launch: Launch) -> None:
    script = """
        orphan = "import subprocess; subprocess.Popen(['true'])"
        for _ in range(20): start(orphan).wait()
        def state(process):
            try: return (process / "stat").read_bytes().rpartition(b") ")[2][:1]
            except OSError: return b""  # it has ended
        def states():
            return [state(process) for process in pathlib.Path("/proc").glob("[0-9]*")]
        while states() != [b"S", b"R"]: time.sleep(0.01)
    """
    assert ended(as_pid_1(launch, script))[0] == 0


@root
def test_when_pid_1_is_killed_nothing_is_left(launch: Launch) -> None:
    process = as_pid_1(launch, FAMILY, WAITS, flags="--nproc-per-node 2")
    launch.has("0.up", "1.up")
    below = processes._descendants(process.pid)
    assert len(below) == 7
    os.kill(init(process), signal.SIGKILL)
    ended(process)
    assert not [pid for pid in below if lives(pid)]


# The number of processes.


def with_torch(folder: Path, body: str) -> dict[str, str]:
    """An environment in which torchrun counts like this, at once."""
    (folder / "torch/distributed").mkdir(parents=True)
    for package in ("torch", "torch/distributed"):
        (folder / package / "__init__.py").touch()
    text = f"def determine_local_world_size(word):\n    {body}\n"
    (folder / "torch/distributed/run.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_torchrun_is_asked_what_a_word_means(tmp_path: Path) -> None:
    env = with_torch(tmp_path, "print('noise'); return {'gpu': 4}[word]")
    assert count("gpu", env) == 4


def test_an_error_of_torchrun_is_told(tmp_path: Path) -> None:
    env = with_torch(tmp_path, "raise ValueError('Cuda is not available.')")
    with pytest.raises(ValueError, match=r"--nproc-per-node gpu: ValueError: Cuda is not availab"):
        count("gpu", env)


def test_there_is_at_least_one_process() -> None:
    with pytest.raises(ValueError, match="--nproc-per-node must be at least 1, got 0"):
        count("0", {})
