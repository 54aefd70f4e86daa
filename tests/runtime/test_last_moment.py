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
    moment.notice(0.4)
    {then}
    time.sleep({seconds})
"""
EVALUATING = """
    import os, signal, threading, time, torch
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
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(60)
"""


def run(program: str, message: Path, **env: str) -> subprocess.CompletedProcess[str]:
    job = {"ACCELERATEDJOB_REPLICAS": "1", "ACCELERATEDJOB_TERMINATION_LOG": str(message)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"OMP_NUM_THREADS": "1", **job, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("step", "then", "seconds", "code", "told"),
    [
        pytest.param(7, "", 60, EXIT_CODE, {"stopped": {"step": 7}}, id="it can go on from a step"),
        pytest.param(None, "", 60, EXIT_CODE, None, id="nothing was saved: that is no stop"),
        pytest.param(7, "moment.cancel()", 1, 0, None, id="it has begun to stop by itself"),
    ],
)
def test_the_end_of_a_process(
    step: int | None, then: str, seconds: int, code: int, told: object, tmp_path: Path
) -> None:
    message = tmp_path / "message"
    ended = run(ALONE.format(step=step, then=then, seconds=seconds), message)
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
