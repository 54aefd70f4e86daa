"""The names of Accelerate's `utils.ao`: which layers fp8 computes."""

from runtime.parallel.modules import filter_linear_layers, find_first_last_linear_layers

__all__ = ["filter_linear_layers", "find_first_last_linear_layers"]
