"""Chooses the precision that models compute in, and checks that it is available."""

import os

import torch

from runtime.config.availability import FP8_CAPABILITY, check_cuda_fp8_capability, is_present
from runtime.config.enums import PrecisionType
from runtime.config.handlers import INSTALL_FP8, AORecipeKwargs
from runtime.config.parsing import naming
from runtime.config.settings import Settings, env_name

# The dtype of autocast. With fp8 it is that of the layers that are not converted.
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}


def choose_precision(
    wanted: str | None, device: torch.device, recipe: AORecipeKwargs | None = None
) -> str:
    """Return the precision that models compute in.

    Args:
        wanted: the precision that the script asks for; None for what the environment says.
        device: the device of this process.
        recipe: the recipe of fp8 that the script gives.

    Raises:
        ValueError: the precision is unknown, the device does not support it, torchao is not
            installed for fp8, or there is a recipe without fp8.
    """
    precision = wanted or Settings.from_env(os.environ).mixed_precision or "no"
    with naming(None if wanted else env_name("mixed_precision")):
        _check(precision, device)
        if precision == "fp8":
            _check_fp8(device, emulates=recipe is not None and recipe.emulates)
    if recipe is not None and precision != "fp8":
        sentence = "Passing in an FP8 configuration requires setting `mixed_precision='fp8'`."
        raise ValueError(sentence)
    return precision


def recipe_of(given: AORecipeKwargs | None, precision: str) -> AORecipeKwargs | None:
    """Return the recipe of fp8: the one that the script gives, or the default one.

    Args:
        given: the recipe that the script gives.
        precision: the precision that models compute in; other ones than fp8 have no recipe.
    """
    if precision != "fp8":
        return None
    return given or AORecipeKwargs()


def _check(precision: str, device: torch.device) -> None:
    if precision not in PrecisionType:
        sentence = (
            f"Unknown mixed_precision mode: {precision}. Choose between 'no', "
            f"{', '.join(map(repr, DTYPES))}."
        )
        raise ValueError(sentence)
    if precision == "fp16" and device.type == "cpu":
        sentence = f"fp16 mixed precision requires a GPU (not {device.type!r}); use bf16"
        raise ValueError(sentence)


def _check_fp8(device: torch.device, *, emulates: bool) -> None:
    if not is_present("torchao"):
        sentence = (
            f"fp8 mixed precision requires torchao, which is not installed: {INSTALL_FP8}, or use "
            "bf16"
        )
        raise ValueError(sentence)
    if emulates or (device.type == "cuda" and check_cuda_fp8_capability()):
        return
    least, name = ".".join(map(str, FP8_CAPABILITY)), str(device)
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)} ({device})"
    sentence = (
        f"fp8 mixed precision requires a CUDA GPU of compute capability {least} or above, and this "
        f"process computes on {name}: use bf16. For tests, any device can emulate fp8: pass "
        "AORecipeKwargs(config=Float8LinearConfig(emulate=True)) in kwargs_handlers"
    )
    raise ValueError(sentence)
