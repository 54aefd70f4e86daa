"""Lets layers that are recomputed in backward attend to whole sequences again."""

import contextlib
from collections.abc import Callable

from torch import nn

from runtime.parallel.context.attention import PartialAttention

_TORCHS = "torch.nn.modules"  # whose layers are parts of others that attend


def attend_again(model: nn.Module, attention: Callable[[], PartialAttention | None]) -> None:
    """Turn attention over whole sequences on in each module that is called while it is off.

    Args:
        model: a model that has not been sharded yet.
        attention: returns the mode of the sequences that are divided now; None if none are.
    """
    entered: list[tuple[nn.Module, contextlib.ExitStack]] = []

    def enter(module: nn.Module, _args: object) -> None:
        mode = attention()
        if mode is not None and not mode.is_on:
            stack = contextlib.ExitStack()
            stack.enter_context(mode)
            entered.append((module, stack))

    def leave(module: nn.Module, _args: object, _output: object) -> None:
        if entered and entered[-1][0] is module:
            entered.pop()[1].close()

    for module in model.modules():
        if not type(module).__module__.startswith(_TORCHS):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave, always_call=True)
