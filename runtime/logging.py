"""The names of Accelerate's `logging`: loggers for several processes."""

from runtime.world.log import MultiProcessAdapter, get_logger

__all__ = [
    "MultiProcessAdapter",
    "get_logger",
]
