"""The names of Accelerate's `utils.megatron_lm`, for Megatron-LM: not supported."""

from runtime.config import left_out

__getattr__ = left_out.stand_ins(__name__)
