"""Loads the states of this process' random generators from a checkpoint.

If the world is larger than the one that was saved, a rank r without a saved state seeds all its
generators with r plus the CRC-32 of the state of rank 0's torch generator.
"""

import warnings
import zlib
from pathlib import Path
from typing import Any

from runtime.checkpoint.filenames import RNG_STATE_NAME
from runtime.checkpoint.formats import load
from runtime.checkpoint.manifest import Contents
from runtime.data.random_states import set_random_states
from runtime.data.rng import set_seed


def load_random_states(folder: Path, process_index: int) -> dict[str, Any]:
    """Set the states of this process' random generators, or seed them if none were saved.

    Args:
        folder: the checkpoint.
        process_index: the data-parallel rank of this process.

    Returns:
        A dict with `step`, the number of batches in the accumulation, and `ahead`, the batches
        that this process had read ahead, if they were saved.
    """
    saved = Contents.of(folder)
    is_known = saved.has(_name(process_index))
    states = load(saved.path(_name(process_index if is_known else 0)))
    if is_known:
        set_random_states(states)
    else:
        if saved.has(_name(process_index - 1)):  # only the first new rank warns
            warnings.warn(
                f"{folder} was saved by fewer processes: rank {process_index} and higher ranks "
                "seed their random generators from rank 0's state and their own rank",
                stacklevel=2,
            )
        drawn = zlib.crc32(bytes(states["torch_manual_seed"].tolist()))
        set_seed((drawn + process_index) % 2**32)
    kept = ("step", "ahead") if is_known else ("step",)
    return {name: states[name] for name in kept if name in states}


def _name(process_index: int) -> str:
    return f"{RNG_STATE_NAME}_{process_index}.pkl"
