"""Accelerate's `utils`, so that imports move unchanged; everything lives in a room with a name."""

from runtime.collectives import (
    broadcast,
    broadcast_object_list,
    gather,
    gather_object,
    pad_across_processes,
    reduce,
)
from runtime.configuration import DataLoaderConfiguration
from runtime.device import DistributedType
from runtime.nested import find_batch_size, send_to_device
from runtime.rng import set_seed, synchronize_rng_state, synchronize_rng_states

__all__ = [
    "DataLoaderConfiguration",
    "DistributedType",
    "broadcast",
    "broadcast_object_list",
    "find_batch_size",
    "gather",
    "gather_object",
    "pad_across_processes",
    "reduce",
    "send_to_device",
    "set_seed",
    "synchronize_rng_state",
    "synchronize_rng_states",
]
