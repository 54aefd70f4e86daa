"""Random generators: seeded together, and kept in step at the start of each epoch."""

import random
from collections.abc import Iterable
from typing import Any

import torch

from runtime.collectives import broadcast_state
from runtime.state import PartialState

GENERATOR = "generator"  # the data loader's own torch.Generator
CPU = "torch"
# accelerate 1.15, utils/dataclasses.py, RNGType; each but the first two names a module of torch.
RNG_TYPES = (
    *(CPU, GENERATOR, "cuda", "mlu", "musa", "npu", "xla", "xpu", "hpu", "sdaa", "neuron"),
)


def set_seed(seed: int, device_specific: bool = False, deterministic: bool = False) -> None:
    """Seed Python's, numpy's and torch's generators, on all devices.

    Args:
        seed: in [0, 2**32).
        device_specific: add the rank, so that processes differ.
        deterministic: ask torch for deterministic algorithms, too.
    """
    if device_specific:
        seed += PartialState().process_index
    random.seed(seed)
    _seed_numpy(seed)
    torch.manual_seed(seed)  # of all devices
    if deterministic:
        torch.use_deterministic_algorithms(True)


def _seed_numpy(seed: int) -> None:
    try:
        import numpy as np  # noqa: PLC0415  # torch works without it
    except ImportError:
        return
    np.random.seed(seed)  # noqa: NPY002  # the generator that old code draws from


def check_rng_types(rng_types: Iterable[str]) -> tuple[str, ...]:
    """The types as a tuple.

    Raises:
        ValueError: one of them is unknown.
    """
    types = tuple(str(getattr(entry, "value", entry)) for entry in rng_types)
    for entry in types:
        if entry not in RNG_TYPES:
            sentence = f"rng_types must be of {', '.join(RNG_TYPES)}, got {entry!r}"
            raise ValueError(sentence)
    return types


def synchronize_rng_states(
    rng_types: Iterable[str], generator: torch.Generator | None = None
) -> None:
    """Give all processes rank 0's state of each kind of generator.

    Args:
        rng_types: of RNG_TYPES.
        generator: which one `generator` means.
    """
    for rng_type in rng_types:
        synchronize_rng_state(rng_type, generator)


def synchronize_rng_state(rng_type: str, generator: torch.Generator | None = None) -> None:
    """Give all processes rank 0's state of one kind of generator.

    Raises:
        ValueError: `generator` is asked for and there is none.
    """
    if rng_type == GENERATOR:
        if generator is None:
            sentence = "rng_types has `generator`, and this data loader has no torch.Generator"
            raise ValueError(sentence)
        generator.set_state(broadcast_state(generator.get_state()))
        return
    module: Any = torch if rng_type == CPU else getattr(torch, rng_type)
    module.set_rng_state(broadcast_state(module.get_rng_state()))
