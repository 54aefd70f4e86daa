"""The states of this process' random generators: in a checkpoint and back, or around what draws.

In a world larger than the one that was saved, ranks r from its size on draw from generators of
their own: all are seeded with the CRC-32 of rank 0's torch generator's state, plus r.
"""

import warnings
import zlib
from pathlib import Path
from typing import Any

from runtime.checkpoint.formats import load
from runtime.checkpoint.manifest import Contents
from runtime.checkpoint.names import RNG_STATE_NAME
from runtime.data.random_states import set_random_states
from runtime.data.rng import set_seed


def load_random_states(folder: Path, process_index: int) -> dict[str, Any]:
    """Put this process' generators back, or seed them; gives `step`, if it was saved."""
    saved = Contents.of(folder)
    is_known = saved.has(_name(process_index))
    states = load(saved.path(_name(process_index if is_known else 0)))
    if is_known:
        set_random_states(states)
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
