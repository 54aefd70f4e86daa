"""`acceleratedjob run` with real processes: whatever they write and start, it ends, and they do."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from acceleratedjob.commands.run import is_answered
from acceleratedjob.local.process import LOOPBACK, free_port
from tests.operator.builders import CONTAINER, job
from tests.operator.screen import Screen

SECONDS = 600  # against waiting for ever
HOUR = 3600  # a grace period that nothing has time to wait for
# In each: `here` is the job's folder; `say` tells the test that a process is at a place.
PRELUDE = """
    import os, pathlib, signal, subprocess, sys, time
    here, rank = pathlib.Path.cwd(), os.environ["RANK"]
    def say(word):
        new = here / f"new.{rank}.{word}"
        new.write_text(str(os.getpid()))
        new.rename(here / f"{rank}.{word}")
    def start(code, **options):
        return subprocess.Popen([sys.executable, "-c", code], **options)
    def until(*words):
        while not all((here / word).exists() for word in words): time.sleep(0.01)
"""
# Saves when it is asked to stop, and tells more of it than a pipe holds.
SAVES = """
    def save(*_):
        print("x" * 300_000); time.sleep(0.5); say("saved"); sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    say("up")
    time.sleep(3600)
"""
FAMILY = """
    code = (
        "import os,time;open('new.%s','w').write(str(os.getpid()));"
        "os.rename('new.%s','%s');time.sleep(3600)"
    )
    for where in (False, True):  # in the process group, and in a session of its own
        name = f"{rank}.child{int(where)}"
        start(code % (name, name, name), start_new_session=where)
    until("0.child0", "0.child1", "1.child0", "1.child1")
"""


def write(
    folder: Path,
    *parts: str,
    command: list[str] | None = None,
    grace: int | None = None,
    **spec: object,
) -> Path:
    (folder / "train.py").write_text("".join(map(textwrap.dedent, (PRELUDE, *parts))))
    container = CONTAINER | {"command": command or ["python", "train.py"]}
    template: dict[str, object] = {"containers": [container]}
    if grace is not None:
        template["terminationGracePeriodSeconds"] = grace
    manifest = job(template={"spec": template}, **spec)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


def start(path: Path, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def run(path: Path) -> tuple[int, list[str]]:
    with start(path, stderr=subprocess.STDOUT) as process:
        output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, output.decode().splitlines()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def pids(folder: Path) -> Iterator[int]:
    return (int(path.read_text()) for path in folder.glob("[0-9].*"))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A job's folder, of whose processes none is left at the end."""
    yield tmp_path
    left = [pid for pid in pids(tmp_path) if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        pytest.param(
            "b''.join(b'\\r%6d/2000 ' % i + b'#' * 60 for i in range(2000)) + b'\\n'",
            [f"{i:6d}/2000 " + "#" * 60 for i in range(2000)],
            id="a progress bar of 150 kB without a newline is shown step by step",
        ),
        pytest.param(
            "b'a' * 900_000 + b'\\n' + b'b' * 100_000",
            ["a" * 900_000, "b" * 100_000],
            id="a line of a megabyte is one line, and a last one needs no newline",
        ),
        pytest.param(
            "b'a' * (3 * 2**20) + b'\\n'",
            ["a" * 2**20, "a" * 2**20, "a" * 2**20],
            id="a line without bound is cut at each MiB",
        ),
        pytest.param(
            "b'a\\r\\nb\\n\\nc\\r\\r\\nd\\r'",
            ["a", "b", "", "c", "", "d"],
            id="all ends of lines are understood, and empty lines are kept",
        ),
        pytest.param(
            "b'\\xff\\xfe\\x00\\x80 ok\\n'",
            ["\ufffd\ufffd\x00\ufffd ok"],
            id="bytes that are no text are shown as such",
        ),
    ],
)
def test_whatever_a_replica_writes_is_shown_and_the_run_ends(
    folder: Path, output: str, lines: list[str]
) -> None:
    path = write(folder, f"os.write = sys.stdout.buffer.write({output})", replicas=1)
    with start(path) as process:
        shown, _ = process.communicate(timeout=SECONDS)
    prefixed = [line for line in shown.decode().split("\n") if line.startswith("[0] ")]
    assert [line.removeprefix("[0] ") for line in prefixed] == lines
    assert process.returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["python", "train.py"], id="the container's first process"),
        pytest.param(["sh", "-c", "exec python train.py"], id="a shell that is replaced"),
        pytest.param(["python", "-m", "runtime.launch", "train.py"], id="what our launcher starts"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_lets_replicas_save(
    folder: Path, number: signal.Signals, command: list[str]
) -> None:
    with start(write(folder, FAMILY, SAVES, command=command, grace=HOUR)) as process:
        until(lambda: len(list(folder.glob("[0-9].up"))) == 2)
        process.send_signal(number)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert len(list(folder.glob("[0-9].saved"))) == 2
    assert output.count(b"x" * 300_000) == 2


SHELL = ["sh", "-c", "python train.py; true"]


# It says so when it has no parent any more: the shell.
ALONE = """
    signal.signal(15, lambda *_: say("asked"))
    shell = os.getppid()
    say("up")
    while os.getppid() == shell: time.sleep(0.01)
    say("alone")
"""


@pytest.mark.parametrize(
    ("last", "grace"),
    [
        pytest.param("until('end')", HOUR, id="until its own end"),
        pytest.param("until('never')", 1, id="until the end of the grace period"),
    ],
)
def test_what_a_shell_has_started_is_not_asked_and_goes_on_until_the_end(
    folder: Path, last: str, grace: int
) -> None:
    """As in a container, whose first process, a shell, does not die of SIGTERM."""
    with start(write(folder, ALONE, last, command=SHELL, grace=grace)) as process:
        until(lambda: len(list(folder.glob("[0-9].up"))) == 2)
        process.send_signal(signal.SIGINT)
        if grace == HOUR:
            until(lambda: len(list(folder.glob("[0-9].alone"))) == 2)
            (folder / "end").touch()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert not list(folder.glob("[0-9].asked"))


def test_two_runs_have_ports_of_their_own_that_all_replicas_share(folder: Path) -> None:
    """Two jobs of one name and manifest, which would both listen at the ports of the manifest."""
    names = ("MASTER_PORT", "PET_MASTER_PORT", "ACCELERATEDJOB_PROGRESS_PORT")
    script = f"""
        path = here / f"ports.{{rank}}.{{os.environ['WHICH']}}"
        path.write_text(" ".join(os.environ[name] for name in {names}))
        until(*(f"ports.{{rank}}.{{run}}" for rank in (0, 1) for run in "ab"))
    """
    path = write(folder, script)
    runs = [start(path, env=os.environ | {"WHICH": which}) for which in "ab"]
    for process in runs:
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
    found = {file.name: file.read_text().split() for file in folder.glob("ports.*")}
    assert found.pop("ports.1.a") == found["ports.0.a"]
    assert found.pop("ports.1.b") == found["ports.0.b"]
    for master, torchruns, progress in found.values():
        assert master == torchruns != progress
    assert not set(found["ports.0.a"]) & set(found["ports.0.b"])


def test_a_second_interrupt_kills_at_once(folder: Path) -> None:
    script = "signal.signal(signal.SIGTERM, lambda *_: say('asked'))\nsay('up')\n"
    script += "while True: time.sleep(3600)"
    with start(write(folder, FAMILY, script, grace=HOUR)) as process:
        until(lambda: len(list(folder.glob("[0-9].up"))) == 2)
        process.send_signal(signal.SIGINT)
        until(lambda: len(list(folder.glob("[0-9].asked"))) == 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("", 0, id="succeeds"),
        pytest.param(
            "if rank == '0': sys.exit(1)\ntime.sleep(3600)", 1, id="fails while the others go on"
        ),
        pytest.param("os.kill(os.getpid(), 9)", 1, id="is killed"),
    ],
)
def test_a_job_that_ends_leaves_no_process_behind(folder: Path, script: str, code: int) -> None:
    path = write(folder, FAMILY, script, failurePolicy={"maxRestarts": 0})
    ended, lines = run(path)
    assert ended == code, lines
    assert len(list(pids(folder))) == 4


def test_replicas_save_when_nobody_reads_their_output_any_more(folder: Path) -> None:
    path = write(folder, SAVES, grace=HOUR)
    with start(path, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        until(lambda: len(list(folder.glob("[0-9].up"))) == 2)
        process.stdout.close()
        process.send_signal(signal.SIGTERM)  # its answer is the first line that nobody reads
        said = process.stderr.read()
        assert process.wait(SECONDS) == 0, said
    assert len(list(folder.glob("[0-9].saved"))) == 2
    assert b"Traceback" not in said


# Leaves its container in every way: group, session and environment.
DAEMON = """
    code = "import os, time; open('new.%s', 'w').write(str(os.getpid())); "
    code += "os.rename('new.%s', '%s.daemon'); time.sleep(3600)"
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.execve(sys.executable, [sys.executable, "-c", code % (rank, rank, rank)], {})
        os._exit(0)
    os.wait()
    until(f"{rank}.daemon")
"""


@pytest.mark.parametrize(
    ("script", "code"), [pytest.param("", 0, id="succeeds"), pytest.param("1 / 0", 1, id="fails")]
)
def test_a_daemon_does_not_outlive_the_job(folder: Path, script: str, code: int) -> None:
    ended, lines = run(write(folder, DAEMON, script, failurePolicy={"maxRestarts": 0}))
    assert ended == code, lines
    assert len(list(folder.glob("[0-9].daemon"))) == 2


def test_a_terminal_that_is_closed_stops_the_job(folder: Path) -> None:
    with start(write(folder, SAVES, grace=HOUR)) as process:
        until(lambda: len(list(folder.glob("[0-9].up"))) == 2)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert len(list(folder.glob("[0-9].saved"))) == 2


def test_the_only_replica_is_answered(folder: Path) -> None:
    script = "print('name?', end=' ', flush=True)\nprint('hello', input())"
    with start(write(folder, script, replicas=1), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(10) == b"[0] name? "  # before the line ends
        process.stdin.write(b"ann\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello ann\n"
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_which_standard_input_somebody_may_write_to() -> None:
    ours, theirs = os.openpty()
    reads, writes = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    opened = (ours, theirs, reads, writes, nothing)
    assert [is_answered(one) for one in (theirs, reads, nothing)] == [True, True, False]
    for one in opened:
        os.close(one)
    assert not is_answered(nothing)


def test_several_replicas_have_no_input(folder: Path) -> None:
    path = write(folder, "print('got', repr(sys.stdin.read()))")
    with start(path, stdin=subprocess.PIPE) as process:
        output, _ = process.communicate(b"for one of them", timeout=SECONDS)
    assert {b"[0] got ''", b"[1] got ''"} <= set(output.splitlines())


def test_a_manifest_from_the_standard_input_is_run(folder: Path) -> None:
    path = write(folder, "print('got', repr(sys.stdin.read()))", replicas=1)
    command = [sys.executable, "-m", "acceleratedjob", "run", "-"]
    done = subprocess.run(
        command,
        input=path.read_bytes(),
        cwd=folder,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert b"[0] got ''" in done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["python", "train.py"], id="the script"),
        pytest.param(["python", "-m", "runtime.launch", "train.py"], id="what our launcher starts"),
    ],
)
def test_a_debugger_works_on_a_terminal(folder: Path, command: list[str]) -> None:
    path = write(
        folder, "answer = 6 * 7\nbreakpoint()\nprint('after')", command=command, replicas=1
    )
    ours, theirs = os.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "CI"} | {"TERM": "xterm"}
    line = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    shown, typed = b"", 0
    with subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, env=kept, start_new_session=True
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux's end of a terminal that all have closed
            while data := os.read(ours, 65536):
                shown += data
                if typed < 2 and shown.count(b"(Pdb) ") > typed:
                    os.write(ours, (b"p answer\n", b"c\n")[typed])
                    typed += 1
        os.close(ours)
    assert process.returncode == 0, shown
    screen = Screen()  # the status may have been shown between two lines, and was removed
    screen.feed(shown.decode().replace("\r\n", "\n"))
    lines = [line for line in screen.lines if not line.startswith("--")]
    assert lines[-4:] == ["[0] (Pdb) p answer", "42", "[0] (Pdb) c", "after"]


def test_what_to_do_next_is_said_at_the_end(folder: Path) -> None:
    code, lines = run(
        write(folder, "import nothing_of_this_name", failurePolicy={"maxRestarts": 0})
    )
    assert code == 1
    assert lines[-1].startswith("-- Next: ")


@pytest.mark.parametrize("path", [None, "team"], ids=["a path of its own", "a path that is given"])
def test_how_to_go_on_from_checkpoints_is_said_at_the_end(folder: Path, path: str | None) -> None:
    script = """
        place = pathlib.Path(os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"])
        place.mkdir(parents=True)
        (place / "checkpoint_1").touch()
        raise KeyError("x")
    """
    volume = {"persistentVolumeClaim": {"claimName": "c"}}
    checkpoint = {"volume": volume} | ({"path": path} if path else {})
    given = write(
        folder, script, replicas=1, checkpoint=checkpoint, failurePolicy={"maxRestarts": 0}
    )
    code, lines = run(given)
    assert code == 1
    (place,) = (folder / "digits-checkpoint").iterdir()
    how = "run the command again" if path else f"add `--set spec.checkpoint.path={place.name}`"
    assert lines[-1] == f"-- Next: to go on from the checkpoints in {place}, {how}"


def test_no_checkpoints_are_named_if_the_script_was_not_found(folder: Path) -> None:
    command, checkpoint = ["python", "no_such_script.py"], {"uri": "s3://b/runs"}
    code, lines = run(write(folder, command=command, checkpoint=checkpoint))
    assert code == 1
    assert lines[-1] == "-- Next: Correct `command` in the manifest, or set `--workdir`."


def test_a_free_port_is_taken_by_nobody_before_its_server_listens() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, port))
    with socket.create_server((LOOPBACK, port)):
        pass


def test_replicas_have_the_same_free_ports(folder: Path) -> None:
    script = (
        "print(*(os.environ[f'{name}_PORT'] for name in ('MASTER', 'ACCELERATEDJOB_PROGRESS')))"
    )
    code, lines = run(write(folder, script))
    assert code == 0, lines
    (told,) = {line[len("[0] ") :] for line in lines if line.startswith("[")}
    master, progress = told.split()
    assert master != progress
    assert not {master, progress} & {"29400", "29500"}
