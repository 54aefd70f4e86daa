"""The GPUs that `acceleratedjob run` deals to a pod are those that torch finds in its processes."""

import os
import subprocess
import sys

import pytest
import torch

from acceleratedjob.api.devices import AMD, NVIDIA
from acceleratedjob.local.dealing import Gpus
from tests.devices import NEEDS_GPU

RESOURCE = AMD if torch.version.hip else NVIDIA
COUNTS = "import torch; print(torch.cuda.device_count())"


def pod(gpus: int) -> dict[str, object]:
    container = {"name": "trainer", "resources": {"limits": {RESOURCE: gpus}}}
    return {"metadata": {"uid": "a"}, "spec": {"containers": [container]}}


@pytest.mark.parametrize("asked", [0, pytest.param(1, marks=NEEDS_GPU)])
def test_a_process_finds_as_many_gpus_as_its_pod_asks_for(asked: int) -> None:
    gpus = Gpus.of_this_machine()
    assert gpus.count(RESOURCE) == torch.cuda.device_count()
    assert gpus.take(pod(asked)) == []
    seen = os.environ | gpus.env(pod(asked))
    done = subprocess.run([sys.executable, "-c", COUNTS], env=seen, check=True, capture_output=True)
    assert int(done.stdout) == asked
