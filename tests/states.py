"""What a process keeps of the Accelerator that was made in it, in both libraries."""

import sys

LIBRARIES = {"runtime": "runtime.world.state", "accelerate": "accelerate.state"}  # and its module


def fresh(*libraries: str, world: bool = True) -> None:
    """Let libraries, by default both, forget it, where they are imported.

    Args:
        libraries: their names.
        world: whether they forget the world as well, which they join only once.
    """
    for library in libraries or LIBRARIES:
        state = sys.modules.get(LIBRARIES[library])
        if state is not None:
            state.AcceleratorState._reset_state(reset_partial_state=world)
            state.GradientState._reset_state()
