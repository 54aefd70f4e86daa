"""The names of Accelerate's `commands.launch`: not supported; use `python -m runtime.launch`."""

from runtime.config import left_out

__getattr__ = left_out.stand_ins(__name__)
