"""Verdicts of real launchers over the real channel, in /progress and termination messages."""

from pathlib import Path
from typing import Any

import pytest

from bench.hangs import TRAINING, World, world

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.xdist_group("gloo")]
SECONDS = 300


def hangs(job: World, rank: int) -> list[dict[str, Any]]:
    """The verdict on a rank that hangs for good.

    Before, there may be one on another rank that has stood still on a busy machine: until it moves.
    """
    return [one for one in job.verdicts("hang") if one["rank"] == rank]


def is_told(job: World, pod: int, rank: int) -> bool:
    """Whether the termination message of a pod says that a rank hangs."""
    return bool(job.message(pod).get("hang", {}).get("rank") == rank)


def test_two_pods_say_in_what_they_differ_and_which_process_is_stopped_in_a_save(
    tmp_path: Path,
) -> None:
    """Its own pod's launcher looks at it; the message stays when the pods are ended."""
    env = {
        "ACCELERATEDJOB_DIVERGENCE_EVERY_STEPS": "2",
        "ACCELERATEDJOB_CHECKPOINT_DIR": str(tmp_path),
        "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "6",
    }
    with world(pods=2, processes=1, floor=1.0, env=env) as job:
        job.start("flips_a_bit_and_is_stopped_in_a_save", "1")
        [differs] = job.until(lambda: job.verdicts("divergence"), SECONDS)
        assert differs["rank"] is None  # two ranks have no majority
        assert "ranks 0, 1 differ in optimizer 0: model 0: " in differs["text"]
        assert "exp_avg, the first that differs: tensor " in differs["text"]
        job.until(lambda: differs["text"] in job.log(), SECONDS)
        [verdict] = job.until(lambda: hangs(job, 1), SECONDS)
        assert (verdict["replica"], verdict["node"]) == (1, "node-1")
        assert "it is stopped by a signal (SIGSTOP" in verdict["text"]
        assert "1 other rank waits in all_gather, collective " in verdict["text"]  # in the save
        job.until(lambda: all(is_told(job, pod, 1) for pod in (0, 1)), SECONDS)
        assert 0 not in job.stop()
        for pod in (0, 1):
            assert job.message(pod)["hang"].items() >= {"rank": 1, "replica": 1}.items()
        assert job.message(1)["exception"] == "killed by SIGKILL"


def test_a_loop_in_c_is_named_with_its_line_and_a_flipped_bit_with_its_tensor() -> None:
    """A rank that holds the interpreter lock is looked at by its launcher."""
    with world(
        pods=1, processes=3, floor=1.0, env={"ACCELERATEDJOB_DIVERGENCE_EVERY_STEPS": "2"}
    ) as job:
        job.start("flips_a_bit_and_loops_in_c", "2")
        [differs] = job.until(lambda: job.verdicts("divergence"), SECONDS)
        assert differs["rank"] == 2
        assert "rank 2 differs from the other ranks in optimizer 0: model 0: " in differs["text"]
        assert "exp_avg, the first that differs" in differs["text"]
        job.until(lambda: differs["text"] in job.log(), SECONDS)
        [verdict] = job.until(lambda: hangs(job, 2), SECONDS)
        job.until(lambda: is_told(job, 0, 2), SECONDS)
        found = job.message(0)["hang"]
        assert (found["rank"], found["function"]) == (2, "loops_in_c")
        assert found["file"] == str(TRAINING)
        assert f"{TRAINING}:{found['line']} (loops_in_c)" in verdict["text"]
