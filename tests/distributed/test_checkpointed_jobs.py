"""A job with `spec.checkpoint` goes on from its step after a kill, with `acceleratedjob run`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.contract.manifests import TEMPLATE
from tests.distributed.world import ROOT, SCRIPT
from tests.operator.builders import CONTAINER, job

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

PROGRAM = ROOT / "tests" / "cluster" / "scripts" / "resuming.py"
STEP = re.compile(r"\[\d\] attempt (\d) rank (\d) epoch \d step (\d+)$")
Steps = dict[tuple[int, int], list[int]]  # (attempt, rank) -> the steps


def run(folder: Path, replicas: int, **checkpoint: object) -> tuple[Steps, str]:
    """Run the job in a folder; return the steps that it prints, and all of its output.

    If there is a rank 1, it is killed.
    """
    container = CONTAINER | {"command": ["python", str(PROGRAM)]}
    at_once = {"backoff": {"initialSeconds": 0}}
    template = {"spec": {"containers": [container]}}
    manifest = job(
        replicas=replicas,
        template=template,
        failurePolicy=at_once,
        checkpoint=TEMPLATE | {"everySteps": 2} | checkpoint,
    )
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    done = subprocess.run(
        [sys.executable, "-m", "acceleratedjob", "run", str(path)],
        env=os.environ | SCRIPT | {"KILLS_ITSELF": "yes"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    steps: Steps = {}
    for found in filter(None, map(STEP.match, done.stdout.splitlines())):
        attempt, rank, step = map(int, found.groups())
        steps.setdefault((attempt, rank), []).append(step)
    return steps, done.stdout


def test_a_killed_job_goes_on_from_its_checkpoint_and_a_new_one_begins_anew(
    tmp_path: Path,
) -> None:
    steps, told = run(tmp_path, 2)
    assert steps[0, 1] == [1, 2, 3, 4, 5, 6]
    for rank in range(2):
        first = steps[1, rank][0]
        assert first in (3, 5, 7)  # after a checkpoint, of which the newest may be incomplete
        assert steps[1, rank] == list(range(first, 17))
    (place,) = (tmp_path / "digits-checkpoint").iterdir()
    assert place.name.startswith("digits-")
    assert f"checkpoints are written to {place}\n" in told
    steps, _ = run(tmp_path, 1)
    assert steps[0, 0][0] == 1
    assert len(list((tmp_path / "digits-checkpoint").iterdir())) == 2
    steps, told = run(tmp_path, 1, path=place.name)  # the training of the first job is complete
    assert steps == {}
    assert f"checkpoints are written to {place}\n" in told
