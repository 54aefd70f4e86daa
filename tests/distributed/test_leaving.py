"""How a process ends that has been in a world."""

import subprocess
import sys
from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.test_launching import run, written
from tests.distributed.world import end, environment, start

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

SCRIPT = """
import atexit, pathlib, sys
def threads():
    return sum("gloo_runloop" in name(path) for path in pathlib.Path("/proc/self/task").glob("*"))
def name(task):
    try:
        return (task / "comm").read_text()
    except OSError:  # the thread has ended
        return ""
atexit.register(lambda: sys.stdout.write(f"{before > 0} {threads()}\\n"))  # the last of all

import torch
from runtime import Accelerator
accelerator = Accelerator(cpu=True)
model = accelerator.prepare(torch.nn.Linear(1, 1))
accelerator.backward(model(torch.ones(1, 1)).sum())
before = threads()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells threads' names")
@pytest.mark.parametrize(
    "last",
    [
        pytest.param("", id="a script that is over"),
        pytest.param("accelerator.end_training()", id="a script that ends its training"),
        pytest.param("sys.exit(0)", id="a script that exits"),
    ],
)
def test_no_thread_is_left_that_could_ask_for_an_interpreter_that_is_gone(
    tmp_path: Path, last: str
) -> None:
    """Torch aborts a process for it that has done all its work."""
    script = written(tmp_path, f"{SCRIPT}\n{last}\n")
    done = run([sys.executable, "-m", "runtime.launch", "--num_processes", "2", script], {})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["True 0", "True 0", ""]


ALONE = """
import sys, torch
from runtime import Accelerator
accelerator = Accelerator(cpu=True)
model = accelerator.prepare({model})
if accelerator.process_index:
    sys.stdin.read()
work = torch.distributed.all_reduce(torch.ones(1), async_op=True)
raise RuntimeError("the script's own")
"""


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("None", id="without a model"),
        pytest.param("torch.nn.Linear(1, 1)", id="with a model in DistributedDataParallel"),
    ],
)
def test_a_process_that_fails_in_a_collective_does_not_wait_for_the_others(
    tmp_path: Path, model: str
) -> None:
    command, port = [sys.executable, written(tmp_path, ALONE.format(model=model))], free_port()
    worlds = [environment(rank, 2, port) for rank in range(2)]
    failing = start(command, worlds[0])
    with subprocess.Popen(command, env=worlds[1], stdin=subprocess.PIPE) as other:
        try:
            said, _ = failing.communicate(timeout=600)
            assert other.poll() is None
        finally:
            end(failing)
            other.kill()
    assert (failing.returncode, "the script's own" in said) == (1, True), said
