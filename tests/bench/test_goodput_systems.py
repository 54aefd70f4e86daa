"""The commands of the systems of bench/goodput."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.goodput.scripts.guards import Timer
from bench.goodput.systems.ours import IN_PLACE
from bench.goodput.systems.system import Command, Spot, System
from bench.goodput.systems.table import SYSTEMS
from bench.goodput.workloads import WORKLOADS
from tests.distributed.world import ROOT

# Rank 0 fails, rank 1 ends well, and the one in reserve waits; or all fail.
RANKS = """
import os, signal, sys
ends = {"0": 1, "1": 0, "2": None}
end = ends[os.environ["RANK"]] if os.environ["HOW"] == "well" else 1
assert os.environ["WORLD_SIZE"] == "3"
if end is None:
    signal.pause()
sys.exit(end)
"""


def commands(system: System, folder: Path) -> list[Command]:
    ports = (1, 2, 3, 4)
    step = WORKLOADS["step"]
    spot = Spot(run="a", folder=folder, workload=step, ports=ports, python="/venv/python")
    setup = system.make(spot)
    return [*setup.services, *setup.units]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_commands_of_a_system_have_names_and_run_in_its_python(
    system: System, tmp_path: Path
) -> None:
    found = commands(system, tmp_path)
    assert len({one.name for one in found}) == len(found) > 0
    for one in found:
        assert one.argv[0].startswith("/venv/")
        assert all(isinstance(word, str) for word in (*one.argv, *one.env.values()))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_script_of_a_system_exists(system: System, tmp_path: Path) -> None:
    words = (word for one in commands(system, tmp_path) for word in one.argv)
    modules = {word for word in words if word.startswith("bench.")}
    assert modules
    for module in modules:
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file(), module


def test_only_restarts_in_place_have_checkpoints_in_memory(tmp_path: Path) -> None:
    found = {one.name: commands(one, tmp_path)[0] for one in SYSTEMS if "ours" in one.name}
    for name in (IN_PLACE, "ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"):
        assert name in found["ours"].env
        assert name not in found["ours-pods"].env
    assert Path(found["ours"].env["ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"]) in found["ours"].fresh


def test_a_step_goes_on_when_torchrun_has_ended_its_timer(tmp_path: Path) -> None:
    """It does so before it asks the ranks to stop, and they still have to save."""
    pipe = tmp_path / "timer"
    timer = Timer(str(pipe))
    timer.acquire("a step", 1.0)
    timer.release("a step")
    os.mkfifo(pipe)  # nobody reads from it any more
    timer.release("a step")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    timer.acquire("a step", 1.0)
    assert b'"scope_id": "a step", "expiration_time": 1.0' in os.read(reader, 4096)
    os.close(reader)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param("well", 0, id="one fails and one ends well: the reserve is not waited for"),
        pytest.param("badly", 1, id="too few are left"),
    ],
)
def test_ranks_that_fail_do_not_end_the_others(tmp_path: Path, how: str, code: int) -> None:
    (tmp_path / "ranks_program.py").write_text(RANKS)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "HOW": how}
    command = ["-m", "bench.goodput.scripts.spawn_ranks", "2", "1", "ranks_program"]
    done = subprocess.run([sys.executable, *command], env=env, check=False, timeout=600)
    assert done.returncode == code
