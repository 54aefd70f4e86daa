"""The fault-tolerant loop on a GPU: lives that end, and what a step must not wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.utils import DataLoaderConfiguration, ProjectConfiguration
from tests.devices import NEEDS_GPU
from tests.distributed.world import ROOT, SCRIPT

pytestmark = [*NEEDS_GPU]
PROGRAM = Path(__file__).with_name("gpu_training.py")
FEW, MANY = 2, 60  # epochs of 16 steps
DIRECTORY, EVERY_STEPS = "ACCELERATEDJOB_CHECKPOINT_DIR", "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"


def life(folder: Path, end: str, epochs: int, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the training under the launcher."""
    folder.mkdir(exist_ok=True)
    place = {DIRECTORY: str(folder / "checkpoints"), "PYTHONUNBUFFERED": "1"}
    return subprocess.run(
        [sys.executable, "-m", "runtime.launch", PROGRAM, folder, end, str(epochs)],
        env=os.environ | SCRIPT | place | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def steps(folder: Path) -> dict[str, str]:
    """Step -> the loss and the random number of the last time that it was trained."""
    pairs = (line.split(" ", 1) for line in (folder / "steps").read_text().splitlines())
    return {step: rest for step, rest in pairs}  # noqa: C416  # dict() would not say the type


@pytest.mark.parametrize(
    ("end", "epochs", "env"),
    [
        pytest.param("kill:13", FEW, {EVERY_STEPS: "4"}, id="killed"),
        pytest.param("stop:13", FEW, {EVERY_STEPS: "4"}, id="asked to stop"),
        pytest.param("kill:saved", MANY, {}, id="killed, with continuous checkpoints"),
    ],
)
def test_a_training_that_was_ended_goes_on_bit_by_bit(
    tmp_path: Path, end: str, epochs: int, env: dict[str, str]
) -> None:
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    done = life(whole, "never", epochs, **env)
    assert done.returncode == 0, done.stderr
    lives = [life(ended, end, epochs, **env)]
    if lives[-1].returncode:
        lives.append(life(ended, "never", epochs, **env))
    assert lives[-1].returncode == 0, lives[-1].stderr
    assert (ended / "has-ended").exists()
    lines = (ended / "steps").read_text().splitlines()
    assert sum(line.startswith("1 ") for line in lines) == 1, "it goes on, and does not begin anew"
    assert steps(ended) == steps(whole)
    assert (ended / "weights").read_text() == (whole / "weights").read_text()


def test_a_failure_of_the_gpu_is_in_the_termination_message_with_its_line(tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    job = {"ACCELERATEDJOB_REPLICAS": "1", "ACCELERATEDJOB_TERMINATION_LOG": str(message)}
    done = life(tmp_path / "it", "error:6", FEW, **job, **{EVERY_STEPS: "4"})
    assert done.returncode not in {0, 143}, done.stderr
    found = json.loads(message.read_text().splitlines()[0])
    assert "CUDA error: device-side assert" in found["message"], found
    assert found["step"] == 6
    assert "gpu_training.py" in message.read_text()
    assert "found.item()" in message.read_text()


@pytest.mark.skipif("CUDA_VISIBLE_DEVICES" in os.environ, reason="is then not judged")
def test_more_processes_than_gpus_is_an_error_with_both_numbers(tmp_path: Path) -> None:
    found = torch.cuda.device_count()
    done = life(tmp_path / "it", "never", FEW, PET_NPROC_PER_NODE=str(found + 1))
    assert done.returncode not in {0, 143}
    assert f"LOCAL_WORLD_SIZE is {found + 1} and torch finds {found}: start {found}" in done.stderr


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_step_does_not_wait_for_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for its batch, its loss, or an automatic checkpoint."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.setenv(EVERY_STEPS, "4")
    accelerator = Accelerator(
        mixed_precision="bf16",
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        project_config=ProjectConfiguration(durable=False),
    )
    model: Any = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Linear(64, 1))
    optimizer: Any = torch.optim.AdamW(model.parameters())
    data = TensorDataset(torch.randn(96, 8))
    loader: Any = DataLoader(data, batch_size=4, shuffle=True, pin_memory=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = accelerator._loop._pulse.losses
    try:
        for _ in accelerator.epochs(1):
            for (inputs,) in loader:
                if accelerator.completed_steps == 6:  # the first steps make the state
                    torch.cuda.set_sync_debug_mode("error")
                losses.wanted.set()
                accelerator.backward(model(inputs).square().mean())
                optimizer.step()
                optimizer.zero_grad()
                if accelerator.completed_steps == 20:
                    torch.cuda.set_sync_debug_mode("default")
                    torch.cuda.synchronize()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert losses.last is not None
    accelerator._checkpointer._writer.wait()
    assert accelerator._loop._checkpoints.safe_step() == 24  # type: ignore[union-attr]  # there are
