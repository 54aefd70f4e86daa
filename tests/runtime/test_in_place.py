"""Launchers that start their processes again in place: real launchers, scripts without torch."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from runtime.config.settings import LoopSettings
from runtime.launch.plan import Pod, plan
from runtime.launch.starter import Starter
from tests.distributed.world import ROOT

SECONDS = 300.0  # longer than any of this takes
PRELUDE = """
import os, pathlib, signal, subprocess, sys, time
here, rank = pathlib.Path.cwd(), os.environ["RANK"]
start = len(list(here.glob(f"start.{rank}.*")))
(here / f"start.{rank}.{start}").write_text(os.environ.get("ACCELERATEDJOB_LIFE", ""))
def until(*words):
    while not all((here / word).exists() for word in words): time.sleep(0.01)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def stopped():
    part = here / f"part.{rank}"
    part.write_text('{"stopped": {"step": 7}}')
    part.rename(here / "termination-log")
"""
# The launcher; it waits long for the others, and notes which launchers the coordinator lets in.
LAUNCHER = """
import runpy
from pathlib import Path
from runtime.control.keeper import Keeper
from runtime.launch import supervisor
supervisor.DECIDING_SECONDS = supervisor.FOLLOWING_SECONDS = 300.0
attend = Keeper.attend
def noted(keeper, replica, now):
    sent = attend(keeper, replica, now)
    Path(f"attends.{replica}").touch()
    return sent
Keeper.attend = noted
"""
RUN = 'runpy.run_module("runtime.launch", run_name="__main__", alter_sys=True)'
# All are there before one is killed; the others never end by themselves.
KILLED_ONCE = """
until("start.0.0", "start.1.0")
if start == 0:
    if rank == "1": kill()
    time.sleep(600)
print("mean life", os.environ.get("ACCELERATEDJOB_MEAN_LIFE_SECONDS"))
"""


# A file in the folder of the launcher.
IN_JOB = {"ACCELERATEDJOB_REPLICAS": "1", "ACCELERATEDJOB_TERMINATION_LOG": "termination-log"}


class Pods:
    """The launchers of the pods of a job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        clean = ("ACCELERATEDJOB_", "PET_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(clean)}
        self.env |= {"PYTHONPATH": str(ROOT), "ACCELERATEDJOB_IN_PLACE_RESTARTS": "2"}
        self.env |= {"ACCELERATEDJOB_STOP_GRACE_SECONDS": "600"}
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
        """Start the launchers; the scripts begin when all of them are connected."""
        together = f"until(*(f'attends.{{replica}}' for replica in range({pods})))\n"
        (self.folder / "train.py").write_text(PRELUDE + together + textwrap.dedent(script))
        command = [sys.executable, "-c", LAUNCHER + RUN, "train.py"]
        for replica in range(pods):
            own = {"PET_NNODES": str(pods), "PET_NODE_RANK": str(replica)}
            own |= {"PET_NPROC_PER_NODE": str(processes)}
            self.running.append(self.launched(command, own | dict(env or {})))

    def launched(
        self, command: list[str], env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self) -> list[tuple[int, str]]:
        """The exit codes and the outputs of the launchers."""
        outputs = [one.communicate(timeout=SECONDS)[0] for one in self.running]
        return [(p.returncode, out) for p, out in zip(self.running, outputs, strict=True)]

    def has(self, *words: str) -> None:
        """Wait until there are files of these names, while the first launcher runs."""
        while not all((self.folder / word).exists() for word in words):
            assert self.running[0].poll() is None
            time.sleep(0.01)

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
    began = time.monotonic()
    pods.start(KILLED_ONCE, pods=number, processes=processes)
    ended = pods.ended()
    longest = time.monotonic() - began + 0.5  # it is rounded
    for code, output in ended:
        assert code == 0, output
        assert "life 1 begins in place" in output
    means = re.findall("mean life (.*)", ended[0][1])  # the launcher of rank 0 tells it
    assert len(means) == processes
    assert all(1 <= int(mean) <= max(1, longest) for mean in means)
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
            "a rule of spec.failurePolicy is about exit code 137",
            137,
            id="an exit code after which the job fails",
        ),
        pytest.param("kill()", {"ACCELERATEDJOB_IN_PLACE_RESTARTS": "0"}, "", 137, id="off"),
        pytest.param(
            "sys.exit(143)", IN_JOB, "without a checkpoint", 143, id="a stop of its own in a job"
        ),
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


@pytest.mark.parametrize(
    ("number", "processes"),
    [pytest.param(1, 2, id="one pod"), pytest.param(2, 1, id="two pods")],
)
def test_when_one_process_is_asked_to_stop_all_save_and_are_started_again(
    pods: Pods, number: int, processes: int
) -> None:
    """As the runtime does: all ranks stop with a checkpoint; rank 0 takes longer to save it."""
    env = {
        "ACCELERATEDJOB_REPLICAS": str(number),
        "ACCELERATEDJOB_TERMINATION_LOG": str(pods.folder / "termination-log"),
    }
    pods.start(
        """
        until("start.0.0", "start.1.0")
        if start == 0:
            if rank == "0":
                until("left.1")
                time.sleep(1)
                (here / "saved").touch()
            stopped()
            (here / f"left.{rank}").touch()
            sys.exit(143)
        print("saved", (here / "saved").exists())
        """,
        pods=number,
        processes=processes,
        env=env,
    )
    for code, output in pods.ended():
        assert code == 0, output
        assert "saved True" in output
        assert "killing" not in output
    assert [len(pods.starts(rank)) for rank in (0, 1)] == [2, 2]


def test_outside_of_a_job_a_stop_need_not_tell_of_its_checkpoint(pods: Pods) -> None:
    pods.start("sys.exit(0 if start else 143)")
    [(code, output)] = pods.ended()
    assert code == 0
    assert "life 1 begins in place" in output


def test_a_pod_that_has_stopped_has_not_succeeded(pods: Pods) -> None:
    """As a script does whose own handler of SIGTERM ends it: the job would be complete."""
    pods.start(
        """
        stopped()
        sys.exit(0)
        """,
        env=IN_JOB,
    )
    [(code, _)] = pods.ended()
    assert code == 143


def test_when_a_pod_is_asked_to_stop_no_other_one_is_started_again(pods: Pods) -> None:
    """As the runtime does: the ranks of the other pod stop with it, with a checkpoint."""
    message = pods.folder / "termination-log"
    env = {"ACCELERATEDJOB_REPLICAS": "2", "ACCELERATEDJOB_TERMINATION_LOG": str(message)}
    pods.start(
        """
        def stop(*_):
            stopped()
            (here / f"left.{rank}").touch()
            sys.exit(143)
        if rank == "1": signal.signal(15, stop)
        (here / f"up.{rank}").touch()
        until("left.1")
        stop()
        """,
        pods=2,
        env=env,
    )
    pods.has("up.0", "up.1")
    pods.running[1].send_signal(signal.SIGTERM)
    (first, output), (second, _) = pods.ended()
    assert (first, second) == (143, 143)
    assert "not started again in place: replica 1 was asked to stop" in output
    assert [len(pods.starts(rank)) for rank in (0, 1)] == [1, 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_pod_that_is_asked_to_stop_is_not_started_again(
    pods: Pods, number: signal.Signals
) -> None:
    """Such as by the end of a terminal, or by a key."""
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(one, signal.SIG_DFL) if signal.getsignal(one) is signal.SIG_IGN else None
    handler = f"signal.signal({number.value}, lambda *_: kill())"
    pods.start(f"{handler}\n(here / 'up').touch()\nwhile True: time.sleep(0.05)")
    pods.has("up")
    pods.running[0].send_signal(number)
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
    pods.has("up.0", "up.1")
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


# It has a process in reserve at once.
AT_ONCE = """
from runtime.launch import starter
starter.RESERVE_SECONDS = 0.0
"""
# In life 0 it waits for the process in reserve; in both it says what it sees of itself.
SEEN = """
os.environ["TMPDIR"] = str(here)
import json, tempfile
from pathlib import Path
from runtime.world import reserve
def is_reserve(folder):
    try:
        name, _, rest = (folder / "stat").read_text().rpartition(") ")
        return name.endswith("(standby") and int(rest.split()[1]) == os.getppid()
    except OSError:
        return False
while start == 0 and not any(map(is_reserve, Path("/proc").glob("[0-9]*"))): time.sleep(0.01)
main = sys.modules["__main__"]
facts = {"name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0]}
facts |= {"main": vars(main) is globals(), "doc": __doc__, "rank": rank, "stdin": sys.stdin.read()}
facts |= {"comm": Path("/proc/self/comm").read_text(), "session": os.getsid(0) == os.getpid()}
facts |= {"temporary": tempfile.gettempdir()}
facts |= {"ignored": [one for one in (2, 13, 15) if signal.getsignal(one) is signal.SIG_IGN]}
others = {"reserve": bool(reserve._notes), "torch": "torch" in sys.modules}
others |= {"life": os.environ["ACCELERATEDJOB_LIFE"]}
(here / f"seen.{start}").write_text(json.dumps([facts, others]))
if start == 0: kill()
raise ValueError("of the script")
"""


@pytest.mark.parametrize(
    ("is_module", "more"),
    [
        pytest.param(False, {}, id="script"),
        pytest.param(True, {}, id="module"),
        pytest.param(False, {"PYTHONSAFEPATH": "1"}, id="script whose folder has no modules"),
    ],
)
def test_a_process_from_the_reserve_is_as_if_it_were_started(
    pods: Pods, *, is_module: bool, more: dict[str, str]
) -> None:
    (pods.folder / "train.py").write_text(PRELUDE + SEEN)
    flags = ["-m", "train"] if is_module else ["train.py"]
    command = [sys.executable, "-c", LAUNCHER + AT_ONCE + RUN, *flags, "--lr", "1"]
    env = {"ACCELERATEDJOB_IN_PLACE_RESTARTS": "1"} | more
    with pods.launched(command, env) as process:
        output, _ = process.communicate(timeout=SECONDS)
    (plain, first), (reserved, second) = (
        json.loads((pods.folder / f"seen.{start}").read_text()) for start in (0, 1)
    )
    assert (first["reserve"], second["reserve"]) == (False, True)
    assert (first["torch"], second["torch"]) == (False, True)
    assert first["life"] != second["life"]
    assert reserved == plain
    assert reserved["argv"][1:] == ["--lr", "1"]
    assert process.returncode == 1
    assert 'train.py", line' in output
    assert "ValueError: of the script" in output


# It may not kill the processes of another user, and does not try for long.
WITHOUT_POWER = """
from runtime.launch import deadlines
deadlines._GIVE_UP_SECONDS = deadlines.TERMINATING_SECONDS = 0.5
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0,
    reason="NOT TESTED: a process that cannot be killed, which needs root on Linux (setpriv)",
)
def test_nothing_is_started_again_beside_a_process_that_cannot_be_killed(pods: Pods) -> None:
    (pods.folder / "train.py").write_text(
        PRELUDE
        + textwrap.dedent("""
        if os.fork():
            until("part")
            while not (here / "part").read_text(): time.sleep(0.01)
            (here / "part").rename(here / "other")
            kill()
        part = os.open(here / "part", os.O_WRONLY | os.O_CREAT)
        null = os.open(os.devnull, os.O_RDWR)
        for output in (1, 2): os.dup2(null, output)
        os.setuid(65534)
        os.write(part, str(os.getpid()).encode())
        os.close(part)
        time.sleep(600)
        """)
    )
    launcher = [sys.executable, "-c", LAUNCHER + WITHOUT_POWER + RUN, "train.py"]
    command = ["setpriv", "--bounding-set=-kill", *launcher]
    try:
        with pods.launched(command) as process:
            output, _ = process.communicate(timeout=SECONDS)
    finally:
        os.kill(int((pods.folder / "other").read_text()), signal.SIGKILL)
    assert process.returncode == 137
    assert "cannot be killed, and are left behind" in output
    assert len(pods.starts(0)) == 1


def test_the_last_life_has_no_reserve() -> None:
    """Also if the life before has ended before its reserve was started."""
    pod = plan(["--no-python", "true"], os.environ)
    assert isinstance(pod, Pod)
    starter = Starter(pod, LoopSettings.from_env({"ACCELERATEDJOB_IN_PLACE_RESTARTS": "1"}))
    due = []
    for life in (0, 1):
        (pid,) = starter.start(1, {}, life=life)
        os.waitpid(pid, 0)
        due.append(starter.fill_at < math.inf)
    assert due == [True, False]


CHANGES = """
import os, sys
from runtime.world import reserve
if "again" not in sys.argv:
    program = [sys.executable, "-c", "import os; print('again', os.environ.get('OMP_NUM_THREADS'))"]
    found = dict(os.environ)
    reserve.note(program, found, found | {"TORCHINDUCTOR_CACHE_DIR": "set by the import"})
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": "set by the import", "LR": "1"}
    os.environ["KMP_INIT_AT_FORK"] = "FALSE"  # as scikit-learn does
    reserve.check(os.environ)
    print("goes on", flush=True)
    os.environ["OMP_NUM_THREADS"] = "7"
    reserve.check(os.environ)
"""


def test_a_script_that_sets_what_counts_at_the_import_of_torch_is_started_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGES],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.splitlines() == ["goes on", "again None"]
    assert "the script sets OMP_NUM_THREADS, which counts only before torch" in done.stderr
