"""Accelerate's `utils.other`: what it has, from the rooms where it lives."""

from runtime.collectives import wait_for_everyone
from runtime.compilation import compile_regions
from runtime.environment import check_os_kernel, get_free_port, is_port_in_use
from runtime.files import clean_state_dict_for_safetensors, load, save
from runtime.model import extract_model_from_parallel, is_compiled_module
from runtime.naming import get_pretty_name, recursive_getattr
from runtime.nested import merge_dicts
from runtime.sizes import convert_bytes

__all__ = [
    "check_os_kernel",
    "clean_state_dict_for_safetensors",
    "compile_regions",
    "convert_bytes",
    "extract_model_from_parallel",
    "get_free_port",
    "get_pretty_name",
    "is_compiled_module",
    "is_port_in_use",
    "load",
    "merge_dicts",
    "recursive_getattr",
    "save",
    "wait_for_everyone",
]
