"""Each example trains as it says it does, by `acceleratedjob run`."""

import os
import re
import subprocess
import sys

import pytest

from tests.distributed.world import ROOT

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

SEEN = 5 * 1440  # images in all epochs
END = re.compile(r"\[0\] 357 held-out images: loss (\S+), accuracy (\S+)")


def run(command: list[str]) -> list[str]:
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("example", "lines"),
    [
        (
            "streaming",
            [f"rank 0 read {SEEN}: {SEEN // 2} images", f"rank 1 read 0: {SEEN // 2} images"],
        ),
        (
            "accumulation",  # an epoch's 45 batches are 11 steps of four and one of one
            [f"rank {rank}: {SEEN // 2} images, 60 steps in bf16" for rank in range(2)],
        ),
        (
            "processes",
            [
                f"rank {rank} is process {rank % 2} of its replica: {SEEN // 4} images"
                for rank in range(4)
            ],
        ),
        ("torchrun", [f"rank {rank} of 2: {SEEN // 2} images" for rank in range(2)]),
        ("accelerate", [f"rank {rank} of 2: {SEEN // 2} images" for rank in range(2)]),
    ],
)
def test_an_example_trains_with_every_rank(example: str, lines: list[str]) -> None:
    output = run(["-m", "acceleratedjob", "run", f"examples/{example}/job.yaml"])
    assert [line[4:] for line in output if "] rank " in line] == lines
    (end,) = filter(None, map(END.fullmatch, output))
    assert float(end[2]) > 0.85
