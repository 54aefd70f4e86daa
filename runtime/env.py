"""`python -m runtime.env`: what this pod looks like; the thing to paste into a bug report.

torch is not imported unless `--devices` asks for it: the answer comes at once, also where torch
is broken. What might be secret is not printed: only variables of training are.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping

from runtime.errors import WorldError
from runtime.launch import flags
from runtime.world.contract import Job, World

PACKAGES = ("acceleratedjob", "torch", "numpy", "safetensors", "accelerate", "transformers")
# torchrun's and torch's own names, and those of what a training's speed depends on.
NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"),
    *(place.variable for place in flags.PLACES),
)
PREFIXES = ("ACCELERATE_", "ACCELERATEDJOB_", "NCCL_", "GLOO_", "OMP_")


def report(env: Mapping[str, str], *, devices: bool) -> Iterator[tuple[str, str]]:
    """Names and values, in the order in which they are of interest.

    Args:
        env: the environment.
        devices: import torch and ask it.
    """
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        yield name, _version(name)
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "job", _told(lambda: Job.from_env(env) or "none: this is no AcceleratedJob's pod")
    yield "world", _told(lambda: World.from_env(env))
    if devices:
        torch = importlib.import_module("torch")
        chosen = importlib.import_module("runtime.world.device").choose(
            cpu=False, distributed=False
        )
        yield "device", f"{chosen.name}, {torch.get_device_module(chosen.name).device_count()}"
    for name in sorted(env):
        if name in NAMES or name.startswith(PREFIXES):
            yield name, env[name]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _told(question: Callable[[], object]) -> str:
    try:
        return str(question())
    except WorldError as error:
        return f"WRONG: {error}"


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m runtime.env", description=__doc__)
    parser.add_argument("--devices", action="store_true", help="import torch, and ask it")
    options = parser.parse_args()
    for name, value in report(os.environ, devices=options.devices):
        sys.stdout.write(f"{name}: {value}\n")


if __name__ == "__main__":
    main()
