"""Seed the random generators, and synchronize them at the start of each epoch."""

import importlib
import random
import warnings
import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed

from runtime.collectives.objects import each_object
from runtime.config.availability import is_present
from runtime.config.enums import RNGType, text
from runtime.config.settings import env_name
from runtime.world.roll_call import Collective
from runtime.world.state import PartialState
from runtime.world.warn import warn_once

_ALIKE = (
    "rng_types contains `torch`: from now on all processes draw the same numbers from torch's "
    "generator, so random augmentation and dropout are the same on all of them. To synchronize "
    "only the order of the data, use `generator` alone."
)
GENERATOR = RNGType.GENERATOR.value  # the data loader's own torch.Generator


def set_seed(seed: int, device_specific: bool = False, deterministic: bool = False) -> None:
    """Seed the default generators of Python, numpy, and torch on all devices.

    Args:
        seed: the seed, in [0, 2**32).
        device_specific: whether to add the data-parallel rank to the seed, so that processes which
            train on different batches differ.
        deterministic: whether torch must also use deterministic algorithms.
    """
    if device_specific:
        seed += PartialState().coordinate.rank
    random.seed(seed)
    _seed_numpy(seed)
    torch.manual_seed(seed)  # on all devices
    if deterministic:
        torch.use_deterministic_algorithms(True)


def _seed_numpy(seed: int) -> None:
    try:
        import numpy as np  # noqa: PLC0415  # torch works without it
    except ImportError:
        return
    np.random.seed(seed)  # noqa: NPY002  # code may use numpy's legacy generator


def process_states() -> dict[str, Any]:
    """Return the states of the default generators of Python, numpy, and torch on the CPU."""
    states: dict[str, Any] = {
        "random_state": random.getstate(),
        "torch_manual_seed": torch.get_rng_state(),
    }
    if is_present("numpy"):
        kind, keys, *rest = importlib.import_module("numpy.random").get_state()
        states["numpy_random_seed"] = (kind, keys.tolist(), *rest)
    return states


def set_process_states(states: dict[str, Any]) -> None:
    """Set the default generators to states that `process_states` has returned."""
    random.setstate(states["random_state"])
    torch.set_rng_state(states["torch_manual_seed"])
    if "numpy_random_seed" in states and is_present("numpy"):
        importlib.import_module("numpy.random").set_state(states["numpy_random_seed"])


def check_rng_types(rng_types: Iterable[RNGType | str]) -> list[str]:
    """Return the names of the types.

    Raises:
        ValueError: a type is unknown.
    """
    types = [text(entry) for entry in rng_types]
    for entry in types:
        if entry not in RNGType:
            sentence = f"rng_types must be of {', '.join(RNGType.list())}, got {entry!r}"
            raise ValueError(sentence)
    return types


def synchronize_rng_states(
    rng_types: Iterable[RNGType | str], generator: torch.Generator | None = None
) -> None:
    """Set the random generators of all processes to rank 0's states, with one broadcast.

    In debug mode (ACCELERATE_DEBUG_MODE), warn about processes whose states differed.

    Args:
        rng_types: the kinds of generators.
        generator: the generator that the kind `generator` stands for.

    Raises:
        ValueError: a kind is unknown or not available, or `rng_types` contains `generator` and
            there is no generator.
    """
    types = check_rng_types(rng_types)
    if GENERATOR in types and generator is None:
        sentence = "rng_types contains `generator`, but this data loader has no torch.Generator"
        raise ValueError(sentence)
    if not types or PartialState().num_processes == 1:
        return
    holders = [generator if name == GENERATOR else _module(name) for name in types]
    states = [get_state(holder) for holder in holders]
    if RNGType.TORCH.value in types:
        warn_once(_ALIKE)
    if PartialState().debug:
        _compare(types, states)
    sent = torch.cat(states).to(PartialState().communication_device)
    with Collective("synchronize_rng_states"):
        distributed.broadcast(sent, 0)
    agreed = torch.split(sent.cpu(), [len(state) for state in states])
    for holder, state in zip(holders, agreed, strict=True):
        set_state(holder, state)


def _compare(types: list[str], states: list[torch.Tensor]) -> None:
    """Warn about the processes whose states differ from rank 0's."""
    digests = each_object([zlib.crc32(bytes(state.tolist())) for state in states])
    for kind, *found in zip(types, *digests, strict=True):
        others = [str(rank) for rank, digest in enumerate(found) if digest != found[0]]
        if others and PartialState().is_main_process:
            sentence = (
                f"the random generator `{kind}` of rank {', '.join(others)} was not in the state "
                f"of rank 0's and is set to it: was it seeded differently, or used more often?"
            )
            warnings.warn(sentence, stacklevel=3)


def synchronize_rng_state(
    rng_type: RNGType | str | None = None, generator: torch.Generator | None = None
) -> None:
    """Set one kind of random generator to rank 0's state on all processes.

    Args:
        rng_type: the kind of generator; None does nothing.
        generator: the generator that the kind `generator` stands for.
    """
    synchronize_rng_states([] if rng_type is None else [rng_type], generator)


def _module(name: str) -> Any:
    """Return the module of torch that has a kind's default generator."""
    module = torch if name == RNGType.TORCH.value else getattr(torch, name, None)
    if module is None:
        sentence = (
            f"rng_types (or {env_name('rng_types')}) contains `{name}`, but this torch has no "
            f"torch.{name}: remove it"
        )
        raise ValueError(sentence)
    return module


def get_state(holder: Any) -> torch.Tensor:
    """Return the state of a generator, or of the default generator of a module of torch."""
    state: torch.Tensor
    state = holder.get_state() if isinstance(holder, torch.Generator) else holder.get_rng_state()
    return state


def set_state(holder: Any, state: torch.Tensor) -> None:
    """Set the state of a generator, or of the default generator of a module of torch."""
    set_state = holder.set_state if isinstance(holder, torch.Generator) else holder.set_rng_state
    set_state(state.clone())  # torch requires a tensor at offset 0 of its storage
