"""Examples that are killed and stopped: `storm_examples FOLDER NAME...`.

Each runs once undisturbed; then a rank is killed, the launcher is asked to stop, and it goes on.
Writes for each, one JSON object a line, the exit codes and a digest of what was saved last. Only a
life that is hit writes checkpoints often: the bits are the same however often they are written.
"""

import dataclasses
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import sklearn.datasets  # noqa: F401  # so that no fork must, as the next one
import torch.distributed.checkpoint  # noqa: F401

from runtime.checkpoint import manifest
from tests.distributed import storm_worlds
from tests.distributed.storm import Life, Storm, await_end
from tests.distributed.world import ROOT

TRIES = 10  # to hit a life that trains for a second
OFTEN = {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "7"}  # for a life that is hit soon
SELDOM = {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "1000"}  # for one that trains to its end
ACCUMULATES = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}
EXAMPLES: dict[str, tuple[str, dict[str, str]]] = {  # the folder, and further variables
    "digits": ("digits", {}),
    "streaming": ("streaming", {}),
    "accumulation": ("accumulation", ACCUMULATES),
    "sharded": ("accumulation", ACCUMULATES | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
}


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    found = manifest.checkpoints_in(folder) if folder.exists() else []
    return manifest.number(found[-1]) if found else 0


def saved(folder: Path) -> str:
    """A digest of all weights and optimizer states in the newest checkpoint."""
    whole = hashlib.sha256()
    for file in sorted((folder / f"checkpoint_{newest(folder)}").rglob("*")):
        if file.suffix in (".safetensors", ".distcp") or file.name == "optimizer.bin":
            whole.update(file.name.encode() + file.read_bytes())
    return f"{newest(folder)} {whole.hexdigest()}"


def lived(storm: Storm, folder: Path, number: int, hit: tuple[str, int] | None) -> int:
    """Run a life; hit it when it has written a checkpoint. Return its exit code.

    One that is over before it is hit is lived again, from the checkpoints that it began with.
    """
    checkpoints, before = folder / "checkpoints", folder / f"before.{number}"
    checkpoints.mkdir(exist_ok=True)
    shutil.copytree(checkpoints, before)
    for _ in range(TRIES):
        code = _code_of(storm, folder, number, hit)
        if code or not hit:
            return code
        shutil.rmtree(checkpoints)
        shutil.copytree(before, checkpoints)
    return 0


def _code_of(storm: Storm, folder: Path, number: int, hit: tuple[str, int] | None) -> int:
    cadence = {**storm.cadence, **(OFTEN if hit else SELDOM)}
    life = Life(dataclasses.replace(storm, cadence=cadence), folder, number)
    before = newest(life.watched)
    while hit and not life.is_over and newest(life.watched) == before:
        time.sleep(0.002)
        life.look()
    if hit:
        life.hit(*hit, random.Random(number))
    await_end(life)
    return life.code


def main(folder: str, *names: str) -> None:
    """Run all, at once."""
    storm_worlds.at_once(
        len(names), [functools.partial(run, Path(folder, name), name) for name in names]
    )


def run(where: Path, example: str) -> None:
    """Run an example, undisturbed and disturbed."""
    place, variables = EXAMPLES[example]
    script = str(ROOT / "examples" / place / "train.py")
    storm = Storm(seed=0, cadence=variables, script=script)
    told: dict[str, object] = {"example": example}
    hits: dict[str, list[tuple[str, int] | None]] = {
        "undisturbed": [None],
        "disturbed": [("rank", signal.SIGKILL), ("launcher", signal.SIGTERM), None],
    }
    for name, lives in hits.items():
        (where / name).mkdir(parents=True)
        (where / name / "ledger").touch()
        codes = [lived(storm, where / name, *one) for one in enumerate(lives)]
        told[name] = {"codes": codes, "saved": saved(where / name / "checkpoints")}
    os.write(1, (json.dumps(told) + "\n").encode())  # whole, beside those of the others


if __name__ == "__main__":
    main(*sys.argv[1:])
