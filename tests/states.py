"""What a process keeps of the Accelerator that was made in it, in both libraries."""

import importlib
import sys

LIBRARIES = {"runtime": "runtime.world.state", "accelerate": "accelerate.state"}  # their states


def fresh(*libraries: str, world: bool = True) -> None:
    """Let libraries, by default both, forget it, where they are imported.

    Args:
        libraries: their names.
        world: whether they forget the world as well, which they join only once.
    """
    for library in libraries or LIBRARIES:
        if LIBRARIES[library] in sys.modules:
            state = importlib.import_module(f"{library}.state")
            state.AcceleratorState._reset_state(reset_partial_state=world)
            state.GradientState._reset_state()
