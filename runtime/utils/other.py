"""Accelerate's `utils.other`: what it has, from the rooms where it lives."""

from runtime.compilation import compile_regions
from runtime.environment import get_free_port, is_port_in_use
from runtime.model import extract_model_from_parallel, is_compiled_module

__all__ = [
    "compile_regions",
    "extract_model_from_parallel",
    "get_free_port",
    "is_compiled_module",
    "is_port_in_use",
]
