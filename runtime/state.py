"""The names of Accelerate's `state`: the states of the process and of gradient accumulation."""

from runtime.world.gradient_state import GradientState
from runtime.world.state import AcceleratorState, PartialState, is_initialized

__all__ = [
    "AcceleratorState",
    "GradientState",
    "PartialState",
    "is_initialized",
]
