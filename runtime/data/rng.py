"""Random generators: seeded together, and kept in step at the start of each epoch."""

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
    "rng_types has `torch`: all processes draw the same numbers from torch's generator from here "
    "on, so random augmentation and dropout are alike on all of them. `generator` alone keeps only "
    "the order of the data in step."
)
GENERATOR = RNGType.GENERATOR.value  # the data loader's own torch.Generator


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


def process_states() -> dict[str, Any]:
    """The states of the default generators of Python, numpy, and torch on the CPU."""
    states: dict[str, Any] = {
        "random_state": random.getstate(),
        "torch_manual_seed": torch.get_rng_state(),
    }
    if is_present("numpy"):
        kind, keys, *rest = importlib.import_module("numpy.random").get_state()
        states["numpy_random_seed"] = (kind, keys.tolist(), *rest)
    return states


def set_process_states(states: dict[str, Any]) -> None:
    """Set the generators that `process_states` has read."""
    random.setstate(states["random_state"])
    torch.set_rng_state(states["torch_manual_seed"])
    if "numpy_random_seed" in states and is_present("numpy"):
        importlib.import_module("numpy.random").set_state(states["numpy_random_seed"])


def check_rng_types(rng_types: Iterable[RNGType | str]) -> list[str]:
    """The types' names.

    Raises:
        ValueError: one of them is unknown.
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
    """Give all processes rank 0's state of each kind of generator, in one message for all.

    In debug mode (ACCELERATE_DEBUG_MODE) it says first which processes had another one.

    Args:
        rng_types: which kinds.
        generator: which one `generator` means.

    Raises:
        ValueError: a kind is unknown, or `generator` is asked for and there is none.
    """
    types = check_rng_types(rng_types)
    if GENERATOR in types and generator is None:
        sentence = "rng_types has `generator`, and this data loader has no torch.Generator"
        raise ValueError(sentence)
    if not types or PartialState().num_processes == 1:
        return
    doors = [generator if name == GENERATOR else _module(name) for name in types]
    states = [get_state(door) for door in doors]
    if RNGType.TORCH.value in types:
        warn_once(_ALIKE)
    if PartialState().debug:
        _compare(types, states)
    sent = torch.cat(states).to(PartialState().communication_device)
    with Collective("synchronize_rng_states"):
        distributed.broadcast(sent, 0)
    agreed = torch.split(sent.cpu(), [len(state) for state in states])
    for door, state in zip(doors, agreed, strict=True):
        set_state(door, state)


def _compare(types: list[str], states: list[torch.Tensor]) -> None:
    """Say which processes had other states than rank 0."""
    digests = each_object([zlib.crc32(bytes(state.tolist())) for state in states])
    for kind, *found in zip(types, *digests, strict=True):
        others = [str(rank) for rank, digest in enumerate(found) if digest != found[0]]
        if others and PartialState().is_main_process:
            sentence = (
                f"the random generator `{kind}` of rank {', '.join(others)} was not in the state "
                f"of rank 0's, and is set to it. Was it seeded otherwise, or drawn from more often?"
            )
            warnings.warn(sentence, stacklevel=3)


def synchronize_rng_state(
    rng_type: RNGType | str | None = None, generator: torch.Generator | None = None
) -> None:
    """Give all processes rank 0's state of one kind of generator."""
    synchronize_rng_states([] if rng_type is None else [rng_type], generator)


def _module(name: str) -> Any:
    """The module of torch that has a kind's default generator."""
    module = torch if name == RNGType.TORCH.value else getattr(torch, name, None)
    if module is None:
        sentence = (
            f"rng_types (or {env_name('rng_types')}) has `{name}`, and this torch has no "
            f"torch.{name}: leave it out"
        )
        raise ValueError(sentence)
    return module


def get_state(door: Any) -> torch.Tensor:
    """The state of a generator, or of the default one of a module of torch."""
    state: torch.Tensor
    state = door.get_state() if isinstance(door, torch.Generator) else door.get_rng_state()
    return state


def set_state(door: Any, state: torch.Tensor) -> None:
    """Set a generator, or the default one of a module of torch."""
    set_state = door.set_state if isinstance(door, torch.Generator) else door.set_rng_state
    set_state(state.clone())  # torch wants it to begin where its storage does
