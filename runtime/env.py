"""`python -m runtime.env`: prints the environment of this pod, for bug reports.

torch is imported only with `--devices`, so that the report is fast and also works if torch is
broken. Only variables that concern training are printed, since others may be secret.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping

from runtime.errors import WorldError
from runtime.launch import flags
from runtime.world.contract import Job, World

PACKAGES = ("acceleratedjob", "torch", "numpy", "safetensors", "accelerate", "transformers")
# Variables of torchrun and torch, and those that the speed of training depends on.
NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"),
    *(place.variable for place in flags.WORLD_FLAGS),
)
PREFIXES = ("ACCELERATE_", "ACCELERATEDJOB_", "NCCL_", "GLOO_", "OMP_")


def report(env: Mapping[str, str], *, devices: bool) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the report, the most important first.

    Args:
        env: the environment variables.
        devices: whether to import torch and report the devices that it finds.
    """
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        yield name, _version(name)
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "job", _told(lambda: Job.from_env(env) or "none: this is not a pod of an AcceleratedJob")
    yield "world", _told(lambda: World.from_env(env))
    if devices:
        import torch  # noqa: PLC0415  # it takes seconds, and may be broken

        from runtime.world.device import choose  # noqa: PLC0415  # imports torch

        chosen = choose(cpu=False, distributed=False)
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
    parser.add_argument("--devices", action="store_true", help="import torch and report devices")
    options = parser.parse_args()
    for name, value in report(os.environ, devices=options.devices):
        sys.stdout.write(f"{name}: {value}\n")


if __name__ == "__main__":
    main()
