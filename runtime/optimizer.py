"""The names of Accelerate's `optimizer`."""

from runtime.optim.optimizer import AcceleratedOptimizer

__all__ = [
    "AcceleratedOptimizer",
]
