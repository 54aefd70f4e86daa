"""Ways to start, and to start wrongly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.world import ROOT, environment, finish, start

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

SCRIPT = """
import sys, {library}
accelerator = {library}.Accelerator()
total = accelerator.reduce(__import__("torch").tensor(accelerator.process_index + 1.0), "sum")
sys.stdout.write(f"{{accelerator.num_processes}} {{accelerator.process_index}} {{int(total)}}\\n")
"""


def script(folder: Path, library: str = "runtime") -> str:
    path = folder / "train.py"
    path.write_text(SCRIPT.format(library=library))
    return str(path)


def run(command: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    clean = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | env
    return subprocess.run(
        command, env=clean, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_launcher_starts_two_processes(tmp_path: Path) -> None:
    port = str(free_port())
    flags = ["--nproc-per-node", "2", "--master-port", port]
    done = run([sys.executable, "-m", "runtime.launch", *flags, script(tmp_path)], {})
    assert sorted(done.stdout.splitlines()) == ["2 0 3", "2 1 3"], done.stderr


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
    assert [output.split("\n")[-2] for output in outputs] == ["2 0 3", "2 1 3"]


def test_a_declared_world_without_ranks_is_refused(tmp_path: Path) -> None:
    env = {"ACCELERATEDJOB_REPLICAS": "2", "ACCELERATEDJOB_PROCESSES_PER_REPLICA": "1"}
    done = run([sys.executable, script(tmp_path)], env)
    assert done.returncode == 1
    assert "start the script with `python -m runtime.launch SCRIPT`" in done.stderr


@pytest.mark.parametrize(
    ("library", "worlds"),
    [
        pytest.param("runtime", ["2 0 3", "2 1 3"], id="one distributed training"),
        pytest.param("accelerate", ["1 0 1", "1 0 1"], id="accelerate: two silent single ones"),
    ],
)
def test_ranks_without_local_ranks(tmp_path: Path, library: str, worlds: list[str]) -> None:
    port, path = free_port(), script(tmp_path, library)
    envs = [environment(rank, 2, port) for rank in range(2)]
    for env in envs:
        del env["LOCAL_RANK"], env["LOCAL_WORLD_SIZE"], env["ACCELERATE_USE_CPU"]
    outputs = finish([start([sys.executable, path], env) for env in envs])
    assert [output.splitlines()[-1] for output in outputs] == worlds


def test_a_rank_0_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(
        "import datetime; from runtime import PartialState\n"
        "PartialState(timeout=datetime.timedelta(seconds=2))\n"
    )
    done = run([sys.executable, str(path)], environment(1, 2, free_port()))
    assert done.returncode == 1
    assert "rank 1 of 2 cannot join at MASTER_ADDR=127.0.0.1 MASTER_PORT=" in done.stderr


def test_the_example_runs_in_one_process() -> None:
    example = ROOT / "examples/digits/train.py"
    done = run([sys.executable, str(example)], {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy 0.9" in done.stdout.splitlines()[-1]
