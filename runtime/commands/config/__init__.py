"""The names of Accelerate's `commands.config`: no config file is read."""

from runtime.commands.config import config_args
from runtime.commands.config.config_args import default_config_file
from runtime.config import left_out

__all__ = ["config_args", "default_config_file"]

__getattr__ = left_out.stand_ins(__name__, __all__)
