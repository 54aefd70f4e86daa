"""Ways to start, and to start wrongly."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.world import ROOT, environment, finish, start

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

SCRIPT = """
import sys, runtime, torch
accelerator = runtime.Accelerator()
world = accelerator.num_processes, accelerator.process_index
total = accelerator.reduce(torch.tensor(world[1] + 1.0), "sum")
sys.stdout.write(" ".join(map(str, (*world, int(total), accelerator.mixed_precision))) + "\\n")
"""


def written(folder: Path, text: str) -> str:
    """The path of a script of this text."""
    path = folder / "train.py"
    path.write_text(text)
    return str(path)


def script(folder: Path, before: str = "") -> str:
    return written(folder, f"{before}\n{SCRIPT}")


def run(command: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    clean = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | env
    return subprocess.run(
        command, env=clean, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("--nproc-per-node 2 --master-port {port}", id="as torchrun"),
        pytest.param(
            "--cpu --num_processes 2 --main_process_port 0 --mixed_precision bf16",
            id="as accelerate launch",
        ),
    ],
)
def test_the_launcher_starts_two_processes(tmp_path: Path, typed: str) -> None:
    flags = typed.format(port=free_port()).split()
    done = run([sys.executable, "-m", "runtime.launch", *flags, script(tmp_path)], {})
    precision = "bf16" if "bf16" in flags else "no"
    assert sorted(done.stdout.splitlines()) == [f"2 0 3 {precision}", f"2 1 3 {precision}"]


def test_the_launcher_joins_two_pods_of_one_process(tmp_path: Path) -> None:
    port = str(free_port())
    path = script(tmp_path)
    outputs = finish(
        [
            start(
                [sys.executable, "-m", "runtime.launch", path],
                os.environ
                | {
                    "PET_NNODES": "2",
                    "PET_NODE_RANK": str(rank),
                    "PET_MASTER_PORT": port,
                    "PYTHONPATH": str(ROOT),
                },
            )
            for rank in range(2)
        ]
    )
    assert [output.split("\n")[-2] for output in outputs] == ["2 0 3 no", "2 1 3 no"]


MEETING = """
import pathlib, sys, time, runtime, torch
name, other = sys.argv[1:]
accelerator = runtime.Accelerator(cpu=True)
pathlib.Path(name).touch()
deadline = time.monotonic() + 300
while not pathlib.Path(other).exists() and time.monotonic() < deadline:
    time.sleep(0.05)
total = accelerator.reduce(torch.tensor(accelerator.process_index + 1.0), "sum")
sys.stdout.write(f"{name} {pathlib.Path(other).exists()} {int(total)}\\n")
"""


def test_two_launchers_on_one_machine_do_not_meet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runtime.launch", "--nproc-per-node", "2"]
    path, env = written(tmp_path, MEETING), os.environ | {"PYTHONPATH": str(ROOT)}
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    outputs = finish([start([*command, path, *names], env) for names in ((a, b), (b, a))])
    found = [[one for one in output.splitlines() if str(tmp_path) in one] for output in outputs]
    assert found == [[f"{a} True 3"] * 2, [f"{b} True 3"] * 2]


NOTEBOOK = """
import sys
from runtime import Accelerator, debug_launcher, notebook_launcher
def train(name):
    accelerator = Accelerator(cpu=True)
    world = accelerator.num_processes, accelerator.process_index, accelerator.mixed_precision
    names = accelerator.gather_for_metrics([name])
    sys.stdout.write(" ".join(map(str, (*world, *names))) + "\\n")
debug_launcher(train, ("d",), num_processes=2)
notebook_launcher(train, ("n",), num_processes=2, use_port={port}, mixed_precision="bf16")
notebook_launcher(train, ("one",), num_processes=1)
try:
    notebook_launcher(train, ("n",), num_processes=2, use_port={port})
except ValueError as error:
    sys.stdout.write(str(error) + "\\n")
"""


def test_functions_are_launched_from_a_notebook(tmp_path: Path) -> None:
    notebook = written(tmp_path, NOTEBOOK.format(port=free_port()))
    done = run([sys.executable, notebook], {})
    *lines, error = done.stdout.splitlines()
    worlds = ["1 0 no one", "2 0 bf16 n n", "2 0 no d d", "2 1 bf16 n n", "2 1 no d d"]
    assert sorted(lines) == worlds, done.stderr
    assert "should only be initialized inside your training function" in error


def test_a_declared_world_without_ranks_is_refused(tmp_path: Path) -> None:
    env = {"ACCELERATEDJOB_REPLICAS": "2", "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1"}
    done = run([sys.executable, script(tmp_path)], env)
    assert done.returncode == 1
    assert "start the script with `python -m runtime.launch SCRIPT`" in done.stderr


def test_a_rank_0_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    text = (
        "import datetime; from runtime import PartialState\n"
        "PartialState(timeout=datetime.timedelta(seconds=2))\n"
    )
    done = run([sys.executable, written(tmp_path, text)], environment(1, 2, free_port()))
    assert done.returncode == 1
    assert "rank 1 of 2 cannot join at MASTER_ADDR=127.0.0.1 MASTER_PORT=" in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    text = "from runtime import PartialState; PartialState()\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run([sys.executable, written(tmp_path, text)], environment(0, 2, port))
    assert done.returncode == 1
    assert f"rank 0 of 2 cannot join at MASTER_ADDR=127.0.0.1 MASTER_PORT={port}: " in done.stderr
    assert "Another process of this machine has the port: end it, or choose" in done.stderr


def test_a_rank_0_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    port, command = free_port(), [sys.executable, "-u", script(tmp_path, "print('begins')")]
    early = start(command, environment(1, 2, port))
    assert early.stdout is not None
    assert early.stdout.readline() == "begins\n"  # and nobody listens at the port yet
    first, second = finish([start(command, environment(0, 2, port)), early])
    assert first.splitlines()[-1] == "2 0 3 no"
    assert second.splitlines()[-1] == "2 1 3 no"
