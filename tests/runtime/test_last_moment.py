"""A process that reaches no place to stop leaves before it is killed, and says so."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runtime.loop.stopping import EXIT_CODE

ALONE = """
    import time
    from runtime.loop.stopping import LastMoment
    moment = LastMoment(lambda: {step})
    moment.notice({grace})
    {then}
"""
WAITS = "time.sleep(600)"
BEGINS_TO_STOP = "moment.cancel(); moment._timer.join()"  # its thread ends at once
EVALUATING = """
    import os, signal, time, torch
    from runtime import Accelerator
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.ones(4, 1)
    model, optimizer, loader, held_out = accelerator.prepare(
        model, optimizer, torch.utils.data.DataLoader(data), torch.utils.data.DataLoader(data)
    )
    for epoch in accelerator.epochs(3):
        for batch in loader:
            accelerator.backward(model(batch).sum())
            optimizer.step()
        for batch in held_out:
            while accelerator._loop._checkpoints.safe_step() != 2: time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
"""


def run(program: str, message: Path, **env: str) -> subprocess.CompletedProcess[str]:
    job = {"ACCELERATEDJOB_REPLICAS": "1", "ACCELERATEDJOB_TERMINATION_LOG": str(message)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"OMP_NUM_THREADS": "1", **job, **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    ("step", "grace", "then", "code", "told"),
    [
        pytest.param(7, 0.4, WAITS, EXIT_CODE, {"stopped": {"step": 7}}, id="it can go on"),
        pytest.param(None, 0.4, WAITS, EXIT_CODE, None, id="nothing was saved: that is no stop"),
        pytest.param(7, 900, BEGINS_TO_STOP, 0, None, id="it has begun to stop by itself"),
    ],
)
def test_the_end_of_a_process(
    step: int | None, grace: float, then: str, code: int, told: object, tmp_path: Path
) -> None:
    message = tmp_path / "message"
    ended = run(ALONE.format(step=step, grace=grace, then=then), message)
    assert ended.returncode == code, ended.stderr
    assert (json.loads(message.read_text()) if message.exists() else None) == told


def test_an_evaluation_is_longer_than_the_grace_period(tmp_path: Path) -> None:
    ended = run(
        EVALUATING,
        tmp_path / "message",
        ACCELERATEDJOB_CHECKPOINT_DIR=str(tmp_path / "checkpoints"),
        ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS="2",
        ACCELERATEDJOB_STOP_GRACE_SECONDS="4",
    )
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert "has reached no place to stop: the job can go on from step 2" in ended.stderr
    assert json.loads((tmp_path / "message").read_text()) == {"stopped": {"step": 2}}
