"""The names of Accelerate's `hooks`, which move parts of models between devices: not supported.

Hooks cannot be attached, so that there are none to remove.
"""

from torch import nn

from runtime.config import left_out

__all__ = ["remove_hook_from_module", "remove_hook_from_submodules"]


def remove_hook_from_module(module: nn.Module, recurse: bool = False) -> nn.Module:  # noqa: ARG001  # accelerate's signature
    """Return a module, which has no hooks of Accelerate.

    Args:
        module: the module.
        recurse: ignored.
    """
    return module


def remove_hook_from_submodules(module: nn.Module) -> None:
    """Do nothing: no module has hooks of Accelerate.

    Args:
        module: ignored.
    """


__getattr__ = left_out.stand_ins(__name__, __all__)
