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
from runtime.parallel.modules import (
    compute_module_sizes,
    get_non_persistent_buffers,
    is_peft_model,
    named_module_tensors,
    set_module_tensor_to_device,
)

__all__ = [
    "compute_module_sizes",
    "convert_file_size_to_int",
    "dtype_byte_size",
    "find_tied_parameters",
    "get_non_persistent_buffers",
    "id_tensor_storage",
    "is_peft_model",
    "load_checkpoint_in_model",
    "load_state_dict",
    "named_module_tensors",
    "retie_parameters",
    "set_module_tensor_to_device",
]


# Functions that place a model on several devices are not supported.
__getattr__ = left_out.stand_ins(__name__, __all__)
