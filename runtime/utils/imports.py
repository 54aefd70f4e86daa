"""Accelerate's `utils.imports`: which packages and devices there are."""

from runtime import availability
from runtime.availability import is_bf16_available, is_fp16_available

__all__ = ["is_bf16_available", "is_fp16_available"]

__getattr__ = availability.__getattr__
