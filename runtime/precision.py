"""The precision that models compute in, and their outputs back in float32."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from runtime.enums import PrecisionType
from runtime.environment import naming
from runtime.nested import map_tensors
from runtime.settings import Settings, env_name

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str | None, device: torch.device) -> str:
    """What models compute in: as asked for, else as the environment says.

    Raises:
        ValueError: it is unknown, or cannot be had here.
    """
    precision = wanted or Settings.from_env(os.environ).mixed_precision or "no"
    with naming(None if wanted else env_name("mixed_precision")):
        _check(precision, device)
    return precision


def _check(precision: str, device: torch.device) -> None:
    if precision not in PrecisionType:
        sentence = (
            f"Unknown mixed_precision mode: {precision}. Choose between 'no', "
            f"{', '.join(map(repr, DTYPES))}."
        )
        raise ValueError(sentence)
    if precision == "fp8":
        sentence = "mixed_precision fp8 is not supported by this runtime; use bf16"
        raise ValueError(sentence)
    if precision == "fp16" and device.type == "cpu":
        sentence = f"fp16 mixed precision requires a GPU (not {device.type!r}); use bf16"
        raise ValueError(sentence)


def convert_to_fp32(tensor: Any) -> Any:
    """The same data with every half-precision tensor in float32."""
    return map_tensors(lambda one: one.float() if one.dtype in DTYPES.values() else one, tensor)


def convert_outputs_to_fp32(model_forward: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose half-precision outputs are float32."""

    @functools.wraps(model_forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return convert_to_fp32(model_forward(*args, **kwargs))

    return forward
