"""Where the values of tensors are in memory."""

from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def id_tensor_storage(tensor: torch.Tensor) -> tuple[torch.device, int, int]:
    """Return the device, the address and the bytes of a tensor's storage.

    They are the same for tensors that share it.
    """
    storage = tensor.untyped_storage()
    return tensor.device, storage.data_ptr(), storage.nbytes()


def is_plain(tensor: Any) -> bool:
    """Whether this is a strided tensor whose storage contains its values without conversion."""
    if not isinstance(tensor, torch.Tensor) or is_traceable_wrapper_subclass(tensor):
        return False
    is_strided = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_nested)
    is_stored = is_strided and not (tensor.is_conj() or tensor.is_neg() or tensor.is_quantized)
    return is_stored and tensor.numel() > 0 and tensor.untyped_storage().nbytes() > 0
