"""The precision that models compute in, and their outputs back in float32."""

import functools
from collections.abc import Callable
from typing import Any

from runtime.collectives.nested import map_tensors
from runtime.config.precision import DTYPES


def convert_to_fp32(tensor: Any) -> Any:
    """The same data with every half-precision tensor in float32."""
    return map_tensors(lambda one: one.float() if one.dtype in DTYPES.values() else one, tensor)


def convert_outputs_to_fp32(model_forward: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose half-precision outputs are float32."""

    @functools.wraps(model_forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return convert_to_fp32(model_forward(*args, **kwargs))

    return forward
