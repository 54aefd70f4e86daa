"""The names of Accelerate's `utils.other`: saving, unwrapping and other helpers."""

from runtime.checkpoint.formats import clean_state_dict_for_safetensors, load, save
from runtime.checkpoint.sizes import convert_bytes
from runtime.collectives.nested import merge_dicts
from runtime.collectives.tensors import wait_for_everyone
from runtime.config.dotted_names import get_pretty_name, recursive_getattr
from runtime.config.parsing import check_os_kernel, get_free_port, is_port_in_use
from runtime.parallel.compile import compile_regions
from runtime.parallel.modules import get_module_children_bottom_up
from runtime.parallel.wrap import extract_model_from_parallel, is_compiled_module

__all__ = [
    "check_os_kernel",
    "clean_state_dict_for_safetensors",
    "compile_regions",
    "convert_bytes",
    "extract_model_from_parallel",
    "get_free_port",
    "get_module_children_bottom_up",
    "get_pretty_name",
    "is_compiled_module",
    "is_port_in_use",
    "load",
    "merge_dicts",
    "recursive_getattr",
    "save",
    "wait_for_everyone",
]
