"""How a process ends that has been in a world."""

import sys
from pathlib import Path

import pytest

from tests.distributed.test_launching import run

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

SCRIPT = """
import atexit, pathlib, sys
def threads():
    names = (path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm"))
    return sum("gloo_runloop" in name for name in names)
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
    "end",
    [
        pytest.param("", id="a script that is over"),
        pytest.param("accelerator.end_training()", id="a script that ends its training"),
        pytest.param("sys.exit(0)", id="a script that exits"),
    ],
)
def test_no_thread_is_left_that_could_ask_for_an_interpreter_that_is_gone(
    tmp_path: Path, end: str
) -> None:
    """Torch aborts a process for it that has done all its work."""
    path = tmp_path / "train.py"
    path.write_text(f"{SCRIPT}\n{end}\n")
    done = run([sys.executable, "-m", "runtime.launch", "--num_processes", "2", str(path)], {})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["True 0", "True 0", ""]
