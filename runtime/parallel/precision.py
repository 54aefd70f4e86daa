"""Converts the outputs of models that compute in half precision to float32."""

import functools
from collections.abc import Callable
from typing import Any

from runtime.collectives.nested import map_tensors
from runtime.config.precision import DTYPES


def convert_to_fp32(tensor: Any) -> Any:
    """Convert the half-precision tensors in nested data to float32.

    Args:
        tensor: a tensor, or a list, tuple or dict of tensors.
    """
    return map_tensors(lambda one: one.float() if one.dtype in DTYPES.values() else one, tensor)


def convert_outputs_to_fp32(model_forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, so that its half-precision outputs are converted to float32.

    Args:
        model_forward: the function.
    """

    @functools.wraps(model_forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return convert_to_fp32(model_forward(*args, **kwargs))

    return forward
