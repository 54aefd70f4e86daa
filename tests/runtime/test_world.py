from typing import Any

import pytest

from runtime.errors import WorldError
from runtime.world.contract import World

MEET = {"MASTER_ADDR": "a", "MASTER_PORT": "1"}
TWO = {"RANK": "1", "WORLD_SIZE": "2"} | MEET
AT_A: dict[str, Any] = {"master_addr": "a", "master_port": 1}


def job(replicas: int, processes: int = 1) -> dict[str, str]:
    return {
        "ACCELERATEDJOB_REPLICAS": str(replicas),
        "ACCELERATEDJOB_PROCESSES_PER_REPLICA": str(processes),
    }


@pytest.mark.parametrize(
    ("env", "world"),
    [
        pytest.param({}, World(), id="a laptop"),
        pytest.param(job(1), World(), id="a job of one process"),
        pytest.param(
            TWO | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            World(rank=1, size=2, local_rank=1, local_size=2, **AT_A),
            id="torchrun",
        ),
        pytest.param(
            TWO,
            World(rank=1, size=2, **AT_A),
            id="ranks without a local rank are distributed, not two single trainings",
        ),
        pytest.param(
            TWO | job(2),
            World(rank=1, size=2, **AT_A),
            id="a pod of a job",
        ),
        pytest.param(
            {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, World(), id="a gang of one pod"
        ),
    ],
)
def test_the_world_in_an_environment(env: dict[str, str], world: World) -> None:
    assert World.from_env(env) == world


@pytest.mark.parametrize(
    ("env", "message"),
    [
        pytest.param({"RANK": "0"} | MEET, "WORLD_SIZE is not", id="a rank of no world"),
        pytest.param({"WORLD_SIZE": "2"} | MEET, "RANK is not", id="a world without a rank"),
        pytest.param(TWO | {"RANK": "2"}, "RANK=2 WORLD_SIZE=2", id="a rank past the end"),
        pytest.param(TWO | {"RANK": "one"}, "RANK must be a whole number", id="a rank in words"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR must be set", id="no address"),
        pytest.param(
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "MASTER_PORT must", id="no port"
        ),
        pytest.param(job(2), r"RANK is not set, so this would train alone", id="two pods, no rank"),
        pytest.param(job(1, 2), r"python -m runtime\.launch", id="two processes, no rank"),
        pytest.param(TWO | job(3), "WORLD_SIZE is 2", id="another world than was declared"),
        pytest.param(TWO | job(1, 2), "LOCAL_RANK must be set", id="two a pod, no local rank"),
        pytest.param(
            TWO | {"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"},
            "LOCAL_RANK=2",
            id="a local rank past the end",
        ),
    ],
)
def test_a_world_that_cannot_train_says_why(env: dict[str, str], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        World.from_env(env)
