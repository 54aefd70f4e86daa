"""How many threads the ranks of `acceleratedjob run` have."""

import os
from pathlib import Path

import pytest

from acceleratedjob.local.process import Ports, command

CORES = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("env", "inherited", "threads"),
    [
        pytest.param({"WORLD_SIZE": "1"}, {}, None, id="a rank that is alone: torch decides"),
        pytest.param({"WORLD_SIZE": str(2 * CORES)}, {}, "1", id="more ranks than cores"),
        pytest.param({"WORLD_SIZE": "2"}, {}, str(max(1, CORES // 2)), id="ranks share the cores"),
        pytest.param({"WORLD_SIZE": "2"}, {"OMP_NUM_THREADS": "7"}, "7", id="the person decides"),
        pytest.param(
            {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "3"},
            {"OMP_NUM_THREADS": "7"},
            "3",
            id="the manifest decides",
        ),
    ],
)
def test_ranks_do_not_wait_for_each_others_threads(
    env: dict[str, str], inherited: dict[str, str], threads: str | None, tmp_path: Path
) -> None:
    given = [{"name": name, "value": value} for name, value in env.items()]
    pod = {"spec": {"containers": [{"name": "trainer", "command": ["true"], "env": given}]}}
    made = command(
        pod, ports=Ports.free(), workdir=tmp_path, checkpoints=tmp_path, inherited=inherited
    )
    assert made.env.get("OMP_NUM_THREADS") == threads
