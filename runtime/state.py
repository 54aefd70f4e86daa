"""`runtime.state`, as Accelerate's `state`: the world, the device and the precision."""

from runtime.world.gradient_state import GradientState
from runtime.world.state import AcceleratorState, PartialState, is_initialized

__all__ = [
    "AcceleratorState",
    "GradientState",
    "PartialState",
    "is_initialized",
]
