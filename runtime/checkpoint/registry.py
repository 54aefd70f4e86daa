"""The objects and hooks that a script adds to its checkpoints."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch.utils.hooks import RemovableHandle

Hook = Callable[..., None]


class Registry:
    """The objects and hooks that a script has registered, in the order of registration.

    Attributes:
        objects: objects whose states are saved and loaded with each checkpoint.
        save_hooks: functions that are called before a checkpoint is written.
        load_hooks: functions that are called before a checkpoint is loaded.
    """

    def __init__(self) -> None:
        """Begin with nothing registered."""
        self.objects: list[Any] = []
        self.save_hooks: OrderedDict[int, Hook] = OrderedDict()
        self.load_hooks: OrderedDict[int, Hook] = OrderedDict()

    def add(self, *objects: Any) -> None:
        """Register objects.

        Raises:
            ValueError: an object has no `state_dict` or no `load_state_dict`; none is registered.
        """
        wrong = [
            f"\n\t- Item at index {index}, `{type(one).__name__}`"
            for index, one in enumerate(objects)
            if not hasattr(one, "state_dict") or not hasattr(one, "load_state_dict")
        ]
        if wrong:
            sentence = (
                "All `objects` must include a `state_dict` and `load_state_dict` function to be "
                f"stored. The following inputs are invalid:{''.join(wrong)}"
            )
            raise ValueError(sentence)
        self.objects.extend(objects)

    def add_save_hook(self, hook: Hook) -> RemovableHandle:
        """Register a function `hook(models, weights, output_dir)`; the handle removes it."""
        return _added(hook, self.save_hooks)

    def add_load_hook(self, hook: Hook) -> RemovableHandle:
        """Register a function `hook(models, input_dir)`; the handle removes it."""
        return _added(hook, self.load_hooks)


def _added(hook: Hook, hooks: OrderedDict[int, Hook]) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle
