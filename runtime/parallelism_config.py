"""The names of Accelerate's `parallelism_config`."""

from runtime.parallel.mesh import ParallelismConfig

__all__ = [
    "ParallelismConfig",
]
