"""The states of this process' random generators: in a checkpoint and back, or around what draws.

In a world larger than the one that was saved, ranks r from its size on draw from generators of
their own: all are seeded with the CRC-32 of rank 0's torch generator's state, plus r.
"""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from runtime.availability import is_present
from runtime.constants import RNG_STATE_NAME
from runtime.files import load
from runtime.manifest import Contents
from runtime.rng import process_states, set_process_states, set_seed

_ACCELERATORS = ("cuda", "xpu", "npu", "mlu", "sdaa", "musa", "hpu", "neuron")


def random_states(step: int) -> dict[str, Any]:
    """The states of all random generators of this process, and how far its accumulation is."""
    states: dict[str, Any] = {"step": step} | process_states()
    for name in _ACCELERATORS:
        if is_present(name):
            states[f"torch_{name}_manual_seed"] = getattr(torch, name).get_rng_state_all()
    return states


def load_random_states(folder: Path, process_index: int) -> dict[str, Any]:
    """Put this process' generators back, or seed them; gives `step`, if it was saved."""
    saved = Contents.of(folder)
    is_known = saved.has(_name(process_index))
    states = load(saved.path(_name(process_index if is_known else 0)))
    if is_known:
        _set_all(states)
    else:
        if saved.has(_name(process_index - 1)):  # the first that is new speaks for all
            warnings.warn(
                f"{folder} was saved by fewer processes: rank {process_index} and those above "
                "draw random numbers of their own, from rank 0's state and their rank",
                stacklevel=2,
            )
        drawn = zlib.crc32(bytes(states["torch_manual_seed"].tolist()))
        set_seed((drawn + process_index) % 2**32)
    return {"step": states["step"]} if "step" in states else {}


def _name(process_index: int) -> str:
    return f"{RNG_STATE_NAME}_{process_index}.pkl"


@contextmanager
def kept_random_states() -> Iterator[None]:
    """What is drawn within is as if it had not been."""
    states = random_states(0)
    try:
        yield
    finally:
        _set_all(states)


def _set_all(states: dict[str, Any]) -> None:
    set_process_states(states)
    for name in _ACCELERATORS:
        if is_present(name) and f"torch_{name}_manual_seed" in states:
            getattr(torch, name).set_rng_state_all(states[f"torch_{name}_manual_seed"])
