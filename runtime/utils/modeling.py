"""The names of Accelerate's `utils.modeling` that concern models on one device."""

from runtime.checkpoint.memory import id_tensor_storage
from runtime.checkpoint.sizes import convert_file_size_to_int, dtype_byte_size
from runtime.checkpoint.weights import (
    find_tied_parameters,
    load_checkpoint_in_model,
    load_state_dict,
    retie_parameters,
)
from runtime.config import left_out

__all__ = [
    "convert_file_size_to_int",
    "dtype_byte_size",
    "find_tied_parameters",
    "id_tensor_storage",
    "load_checkpoint_in_model",
    "load_state_dict",
    "retie_parameters",
]


# Functions that place a model on several devices are not supported.
__getattr__ = left_out.stand_ins(__name__, __all__)
