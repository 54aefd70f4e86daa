"""What a failing process leaves in its termination message is what the operator reads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.observe.termination import (
    MAX_BYTES,
    LastWords,
    read_final,
    read_last_words,
    read_stopped,
)
from runtime.world import last_words
from tests.attempts import env_of
from tests.operator.builders import spec

ROOT = Path(__file__).parents[2]
P0 = {"attempt": 0, "index": 0}
SET_UP = "import os; from runtime.world import last_words; last_words.install(os.environ); "


def start(script: str, env: dict[str, str]) -> "subprocess.Popen[str]":
    """A real process of a pod, or of no job, with nothing of this one's world."""
    kept = {name: value for name, value in os.environ.items() if name not in env_of(spec(), **P0)}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=kept | {"PYTHONPATH": str(ROOT)} | env,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """What it has written to stderr, once it has failed."""
    _, said = process.communicate(timeout=600)
    assert process.returncode == 1, said
    return said


def environment(file: Path, index: int = 1, **fields: object) -> dict[str, str]:
    """What the operator gives to a replica whose message is in a file."""
    job = spec({"terminationMessagePath": str(file)}, **fields)
    return env_of(job, attempt=0, index=index)


@pytest.mark.parametrize(
    ("script", "exception", "message"),
    [
        pytest.param("raise ValueError('no such file')", "ValueError", "no such file", id="usual"),
        pytest.param("import json; json.loads('{')", "json.decoder.JSONDecodeError", "", id="lib"),
        pytest.param("raise KeyError(chr(0) * 5000)", "KeyError", "", id="a long message"),
        pytest.param("raise ValueError('\\ud800€' * 900)", "ValueError", "", id="not Unicode"),
        pytest.param("f = lambda n: f(n + 1); f(0)", "RecursionError", "maximum", id="deep"),
        pytest.param(
            "E = type('E', (Exception,), {'__str__': lambda s: 1 / 0}); raise E",
            "E",
            "str() of this exception failed: ZeroDivisionError",
            id="an exception that cannot be shown",
        ),
    ],
)
def test_an_uncaught_exception_is_told_and_shown_as_ever(
    tmp_path: Path, script: str, exception: str, message: str
) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    said = finish(start(SET_UP + script, environment(file)))
    assert said.startswith("Traceback")
    written = file.read_bytes()
    assert len(written) <= MAX_BYTES == last_words.MAX_BYTES
    words = read_last_words(written.decode())
    assert words is not None
    assert (words.exception, words.rank) == (exception, 1)
    assert words.message.startswith(message)
    assert words.traceback


def test_of_several_processes_one_tells(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    env = environment(file, processesPerReplica=4)
    script = f"{SET_UP}raise ValueError('x' * 400 + os.environ['RANK'])"
    processes = [start(script, env | {"RANK": f"{rank}"}) for rank in range(4, 8)]
    for process in processes:
        finish(process)
    words = read_last_words(file.read_text())
    assert words is not None
    assert words.rank in range(4, 8)
    assert words.message == "x" * 400 + str(words.rank)


@pytest.mark.parametrize(
    ("script", "step"),
    [
        pytest.param("raise ValueError", None, id="before the training it is not known"),
        pytest.param("last_words.report_step(lambda: 40); raise ValueError", 40, id="in a step"),
        pytest.param(
            "import torch\n"
            "torch.distributed.init_process_group(\n"
            "    'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)\n"
            "last_words.report_step(lambda: 40); raise ValueError",
            40,
            id="of processes that torch has joined",
        ),
        pytest.param(
            "from runtime import Accelerator; a = Accelerator(cpu=True); "
            "p = torch.nn.Linear(1, 1); p, o = a.prepare(p, torch.optim.SGD(p.parameters()))\n"
            "for _ in a.epochs(9):\n"
            "  a.backward(p(torch.ones(1))); o.step(); o.zero_grad(); 1 / (2 - a.completed_steps)",
            2,
            id="a loop over epochs() tells it",
        ),
    ],
)
def test_the_step_at_which_the_training_ends_is_told(
    tmp_path: Path, script: str, step: int | None
) -> None:
    file = tmp_path / "termination-log"
    finish(start(f"import torch\n{SET_UP}\n{script}", environment(file, 0, replicas=1)))
    words = read_last_words(file.read_text())
    assert words is not None
    assert words.step == step


def test_outside_of_a_job_no_step_is_told(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    script = f"{SET_UP}last_words.report_step(lambda: 40); raise ValueError"
    finish(start(script, {last_words.PATH: str(file)}))
    assert not file.exists()


def test_a_stop_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    last_words.write_stopped(environment(file), 40)
    assert read_stopped(file.read_text()) == 40


@pytest.mark.parametrize(
    ("script", "job"),
    [
        pytest.param("raise ValueError", False, id="outside of a job"),
        pytest.param("import sys; sys.exit(1)", True, id="an exit code is no exception"),
    ],
)
def test_nothing_is_told(tmp_path: Path, script: str, job: bool) -> None:
    file = tmp_path / "termination-log"
    env = environment(file) if job else {last_words.PATH: str(file)}
    finish(start(SET_UP + script, env))
    assert not file.exists()


def test_where_there_is_no_place_for_it_the_process_fails_as_ever(tmp_path: Path) -> None:
    said = finish(start(SET_UP + "raise ValueError('no')", environment(tmp_path / "a" / "b")))
    assert said.splitlines()[-1] == "ValueError: no"


@pytest.mark.parametrize(
    ("script", "fields", "exception"),
    [
        pytest.param(
            "PartialState(cpu=True); raise ValueError('no')",
            {"replicas": 1},
            "ValueError",
            id="after the world is joined",
        ),
        pytest.param(
            "PartialState(cpu=True)",
            {"processesPerReplica": 2},
            "runtime.errors.WorldError",
            id="when it cannot be",
        ),
    ],
)
def test_a_script_that_uses_the_runtime_tells(
    tmp_path: Path, script: str, fields: dict[str, object], exception: str
) -> None:
    file = tmp_path / "termination-log"
    finish(start(f"from runtime import PartialState; {script}", environment(file, 0, **fields)))
    words = read_last_words(file.read_text())
    assert isinstance(words, LastWords)
    assert words.exception == exception


TRAINING = """
import sys, torch
from torch.utils.data import DataLoader, TensorDataset
from runtime import Accelerator
a = Accelerator(cpu=True)
model = torch.nn.Linear(1, 1)
model, optimizer, loader = a.prepare(
    model, torch.optim.SGD(model.parameters()), DataLoader(TensorDataset(torch.ones(8, 1)), 2)
)
for epoch in a.epochs(3):
    for (inputs,) in loader:
        a.backward(model(inputs).sum())
        optimizer.step()
        optimizer.zero_grad()
        {body}
"""
FAILS = "if a.completed_steps == 5: sys.exit(1)"


@pytest.mark.parametrize(
    ("launcher", "body", "reached"),
    [
        pytest.param((), "pass", (3, 12, 12), id="of a script that is PID 1"),
        pytest.param((), FAILS, None, id="not of one that fails before its end"),
        pytest.param(("-m", "runtime.launch"), "pass", (3, 12, 12), id="of a launcher"),
        pytest.param(("-m", "runtime.launch"), FAILS, None, id="not if its process fails"),
    ],
)
def test_how_far_a_training_came_is_told_at_its_end(
    tmp_path: Path, launcher: tuple[str, ...], body: str, reached: tuple[int, int, int] | None
) -> None:
    file, script = tmp_path / "termination-log", tmp_path / "train.py"
    script.write_text(TRAINING.format(body=body))
    one_life = {"inPlaceRestarts": 0}
    given = environment(file, 0, replicas=1, failurePolicy=one_life)
    env = os.environ | {"PYTHONPATH": str(ROOT)} | given
    command = [sys.executable, *launcher, str(script)]
    done = subprocess.run(command, env=env, timeout=600, check=False)
    assert done.returncode == (0 if reached else 1)
    told = read_final(file.read_text()) if file.exists() else None
    assert reached == (None if told is None else (told.epoch, told.step, told.total_steps))
    assert told is None or told.attempt == 0


FAIL_WHEN_HEARD = """
def fail():  # an error before the coordinator has heard of a step is one before the first step
    import json, os, urllib.request
    url = f"http://127.0.0.1:{os.environ['ACCELERATEDJOB_COORDINATOR_PORT']}/progress"
    while not json.load(urllib.request.urlopen(url))["step"]: pass
    raise KeyError('five')
"""


def test_the_lives_of_an_attempt_that_fails_are_told_beside_its_exception(tmp_path: Path) -> None:
    file, script = tmp_path / "termination-log", tmp_path / "train.py"
    body = "if a.completed_steps == 5: fail()"
    script.write_text(FAIL_WHEN_HEARD + TRAINING.format(body=body))
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment(file, 0, replicas=1)
    command = [sys.executable, "-m", "runtime.launch", str(script)]
    assert subprocess.run(command, env=env, timeout=600, check=False).returncode == 1
    told, exception = read_final(file.read_text()), read_last_words(file.read_text())
    assert told is not None
    assert exception is not None
    assert (exception.step, "KeyError: 'five'" in exception.traceback) == (5, True)
    assert told.life == 1  # the same error at the same step again ends the attempt
    assert [(one.life, one.exception, one.step) for one in told.failures] == [(0, "KeyError", 5)]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"exception": "E", "traceback": 5}, id="a traceback that is a number"),
        pytest.param(
            {"exception": "E", "message": {"text": "x" * 4000}}, id="a message that is an object"
        ),
        pytest.param({"exception": "E", "message": None}, id="no message"),
    ],
)
def test_what_a_script_has_written_itself_does_not_disturb_the_launcher(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    file = tmp_path / "termination-log"
    file.write_text(json.dumps(told))
    env = environment(file, 0, replicas=1)
    last_words.add_progress(env, {"step": 7})
    last_words.write_hang(env, {"message": "hangs", "rank": 0})
    said = file.read_text()
    assert len(said.encode()) <= MAX_BYTES
    exception, progress = read_last_words(said), read_final(said)
    assert exception is not None
    assert progress is not None
    assert (exception.exception, progress.step) == ("E", 7)


WRITERS_ARE_KILLED = f"""{SET_UP}
import json, random, signal, sys, time
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    while pid == 0:
        last_words.write_hang(os.environ, {{"message": "hangs", "rank": 0}})
        last_words.write_hang(os.environ, None)
    until = time.perf_counter() + 0.002 * random.random()
    while time.perf_counter() < until: pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(os.environ[last_words.PATH]) as file: print(json.dumps(json.load(file)))
"""


def test_a_process_that_is_killed_while_it_writes_loses_no_message(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    first = {"exception": "E", "message": "x" * 300}
    file.write_text(json.dumps(first))
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment(file, 0)
    command = [sys.executable, "-c", WRITERS_ARE_KILLED, "500"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, timeout=600, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 500
    assert {"hang" in told for told in found} == {False, True}
    assert all(first.items() <= told.items() for told in found)
