"""The names of Accelerate's `commands.config.config_args`: no config file is read."""

from runtime.config import left_out

__all__ = ["default_config_file"]

default_config_file = ""  # the path of no file, so that scripts which look for one find none

__getattr__ = left_out.stand_ins(__name__, __all__)
