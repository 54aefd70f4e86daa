"""The names of Accelerate's `utils.imports`: which packages and devices are available."""

from runtime.config import availability
from runtime.config.availability import (
    is_bf16_available,
    is_fp16_available,
    is_habana_gaudi1,
)

__all__ = [
    "is_bf16_available",
    "is_fp16_available",
    "is_habana_gaudi1",
]

__getattr__ = availability.__getattr__
