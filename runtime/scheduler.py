"""The names of Accelerate's `scheduler`."""

from runtime.optim.scheduler import AcceleratedScheduler

__all__ = [
    "AcceleratedScheduler",
]
