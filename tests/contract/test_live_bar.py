"""`acceleratedjob run` on a terminal shows what the runtime tells of a job."""

import math
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from acceleratedjob.observe.progress import read_progress
from runtime.control.progress.encoding import to_json
from runtime.control.progress.snapshot import Snapshot
from tests.contract.snapshots import snapshots
from tests.operator.builders import CONTAINER, job
from tests.operator.screen import Screen

# Serves as a coordinator will; the job goes on when its progress was asked for.
SCRIPT = """
import os, socket
from runtime.control.progress.request import RequestReader
from runtime.control.progress.respond import pages, respond
from runtime.control.progress.snapshot import Snapshot

def answer(connection, step):
    reader, request = RequestReader(), None
    while request is None:
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("it was given up before it was asked")
        request = reader.feed(data)
    job = {"name": "digits", "uid": os.environ["ACCELERATEDJOB_UID"]}
    snapshot = Snapshot(**job, step=step, total_steps=400, percent=step // 4)
    shown = respond(request.method, request.target, pages(lambda: snapshot))
    connection.sendall(shown.encode())

port = int(os.environ["ACCELERATEDJOB_PROGRESS_PORT"])
with socket.create_server(("127.0.0.1", port)) as listener:
    listener.settimeout(600)
    for step in (100, 200, 300):
        answers = 0
        while answers < 2:  # once a second: between two of them the bar is drawn
            connection, _ = listener.accept()
            with connection:
                try:
                    answer(connection, step)
                except ConnectionError:
                    continue
                answers += 1
        print(f"after {step}")
"""
COLOR = re.compile(r"\x1b\[\d*m")
SILENT = "print('trained')"


def run(
    folder: Path, script: str, *, columns: int = 60, env: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, str]:
    """Run a job in a terminal, and return the exit code and what was written."""
    (folder / "train.py").write_text(script)
    container = CONTAINER | {"command": ["python", "train.py"]}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job(template={"spec": {"containers": [container]}}, replicas=1)))
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [sys.executable, "-m", "acceleratedjob", "run", str(path)]
    with subprocess.Popen(command, stdout=theirs, env=kept | {"TERM": "xterm", **env}) as process:
        os.close(theirs)
        written = b""
        while data := _read(ours):
            written += data
        os.close(ours)
    return process.returncode, written.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's end of a terminal that all programs have closed
        return b""


def test_the_bar_is_below_the_lines_while_the_job_runs_and_gone_at_the_end(tmp_path: Path) -> None:
    code, written = run(tmp_path, SCRIPT)
    assert code == 0, written
    parts = [f"{step // 4}%  step {step}/400  " for step in (100, 200)]
    assert all(f"  1/1  {part}" in COLOR.sub("", written) for part in parts)
    screen = Screen()
    screen.feed(written)
    lines = [line for line in screen.lines if not line.startswith("--")]
    assert lines == ["[0] after 100", "[0] after 200", "[0] after 300"]
    assert screen.lines[-1] == "-- Succeeded"


def test_the_bar_is_as_wide_as_the_terminal(tmp_path: Path) -> None:
    _, written = run(tmp_path, SCRIPT, columns=22)
    told = COLOR.sub("", written)
    assert "digits  Running  25%" in told
    assert "step 100/400" not in told


@pytest.mark.parametrize(
    ("env", "colours"),
    [pytest.param({"CI": "true"}, {"36", "0"}, id="in a CI"),
     pytest.param({"CI": "true", "NO_COLOR": "1"}, set(), id="in a CI without colors")],
)  # fmt: skip
def test_nothing_is_redrawn(tmp_path: Path, env: dict[str, str], colours: set[str]) -> None:
    code, written = run(tmp_path, SILENT, env=env)
    assert code == 0, written
    assert set(re.findall(r"\x1b\[(\d*)m", written)) == colours
    assert not re.search(r"\x1b\[\d*[^m\d]|\r", written)


@given(snapshots())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_runtime_tells_the_operator_reads(snapshot: Snapshot) -> None:
    found = read_progress(to_json(snapshot))
    names = ("attempt", "life", "epoch", "epochs", "step", "total_steps", "percent")
    for name in names:
        assert getattr(found, name) == getattr(snapshot, name)
    assert [one.step for one in found.checkpoints] == [one.step for one in snapshot.checkpoints]
    assert found.checkpoint == next(iter(found.checkpoints), None)
    assert [one.kind for one in found.verdicts] == [one.kind for one in snapshot.verdicts]
    for name in ("life", "rank", "exit_code", "signal", "step"):
        lives = [[getattr(one, name) for one in side.failures] for side in (snapshot, found)]
        assert lives[0] == lives[1]
    for name in ("eta_seconds", "samples_per_second", "loss"):
        told, read = getattr(snapshot, name), getattr(found, name)
        if told is not None and 2**53 < abs(told) < math.inf:
            told = math.copysign(2**53 - 1, told)
        assert read == pytest.approx(told, rel=1e-5, nan_ok=True)
