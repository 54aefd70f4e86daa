"""The names of Accelerate's `checkpointing`: the contents of a checkpoint."""

from runtime.checkpoint.contents import (
    load_accelerator_state,
    load_custom_state,
    load_custom_states,
    parts,
    random_part,
    save_accelerator_state,
    save_custom_state,
)

__all__ = [
    "load_accelerator_state",
    "load_custom_state",
    "load_custom_states",
    "parts",
    "random_part",
    "save_accelerator_state",
    "save_custom_state",
]
