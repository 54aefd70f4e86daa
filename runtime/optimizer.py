"""`runtime.optimizer`, as Accelerate's `optimizer`."""

from runtime.optim.optimizer import AcceleratedOptimizer

__all__ = [
    "AcceleratedOptimizer",
]
