"""The names of Accelerate's `utils.operations`: collectives, and operations on nested tensors."""

from runtime.collectives.debug import chained_operation, verify_operation
from runtime.collectives.nested import (
    TensorInformation,
    concatenate,
    find_batch_size,
    find_device,
    get_data_structure,
    get_shape,
    honor_type,
    ignorant_find_batch_size,
    initialize_tensors,
    is_namedtuple,
    is_tensor_information,
    is_torch_tensor,
    listify,
    recursively_apply,
    send_to_device,
    slice_tensors,
)
from runtime.collectives.objects import broadcast_object_list, gather_object
from runtime.collectives.tensors import (
    CannotPadNestedTensorWarning,
    broadcast,
    copy_tensor_to_devices,
    gather,
    pad_across_processes,
    pad_input_tensors,
    reduce,
)
from runtime.errors import DistributedOperationException
from runtime.parallel.precision import convert_outputs_to_fp32, convert_to_fp32

__all__ = [
    "CannotPadNestedTensorWarning",
    "DistributedOperationException",
    "TensorInformation",
    "broadcast",
    "broadcast_object_list",
    "chained_operation",
    "concatenate",
    "convert_outputs_to_fp32",
    "convert_to_fp32",
    "copy_tensor_to_devices",
    "find_batch_size",
    "find_device",
    "gather",
    "gather_object",
    "get_data_structure",
    "get_shape",
    "honor_type",
    "ignorant_find_batch_size",
    "initialize_tensors",
    "is_namedtuple",
    "is_tensor_information",
    "is_torch_tensor",
    "listify",
    "pad_across_processes",
    "pad_input_tensors",
    "recursively_apply",
    "reduce",
    "send_to_device",
    "slice_tensors",
    "verify_operation",
]
