"""`runtime.parallelism_config`, as Accelerate's `parallelism_config`."""

from runtime.parallel.mesh import ParallelismConfig

__all__ = [
    "ParallelismConfig",
]
