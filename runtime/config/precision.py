"""The precision that models compute in: what is asked for, and whether it is available."""

import os

import torch

from runtime.config.enums import PrecisionType
from runtime.config.parsing import naming
from runtime.config.settings import Settings, env_name

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
