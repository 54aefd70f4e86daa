"""The names of Accelerate's `utils.deepspeed`, for DeepSpeed: not supported."""

from runtime.config import left_out

__getattr__ = left_out.stand_ins(__name__)
