"""Chooses the precision that models compute in, and checks that it is available."""

import os

import torch

from runtime.config.enums import PrecisionType
from runtime.config.parsing import naming
from runtime.config.settings import Settings, env_name

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str | None, device: torch.device) -> str:
    """Return the precision that models compute in.

    Args:
        wanted: the precision that the script asks for; None for what the environment says.
        device: the device of this process.

    Raises:
        ValueError: the precision is unknown, or the device does not support it.
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
