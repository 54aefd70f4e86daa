"""What a script adds to an Accelerator's checkpoints: objects of its own, and hooks."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from runtime.world.roles import StateView

Hook = Callable[..., None]


class Registering(StateView):
    """Mixed into the Accelerator."""

    _models: list[nn.Module]
    _custom_objects: list[Any]
    _save_model_state_pre_hook: OrderedDict[int, Hook]
    _load_model_state_pre_hook: OrderedDict[int, Hook]

    def _begin_registering(self) -> None:
        """Nothing is registered yet."""
        self._custom_objects = []
        self._save_model_state_pre_hook = OrderedDict()
        self._load_model_state_pre_hook = OrderedDict()

    def register_for_checkpointing(self, *objects: Any) -> None:
        """Have the states of objects saved and loaded along.

        Raises:
            ValueError: one of them has no state_dict or load_state_dict.
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
        self._custom_objects.extend(objects)

    def register_save_state_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Have a function called before states are written: `hook(models, weights, output_dir)`.

        It may take weights out of the list, and write them itself.
        """
        handle = RemovableHandle(self._save_model_state_pre_hook)
        self._save_model_state_pre_hook[handle.id] = hook
        return handle

    def register_load_state_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Have a function called before states are loaded: `hook(models, input_dir)`.

        It may take models out of the list, and load them itself.
        """
        handle = RemovableHandle(self._load_model_state_pre_hook)
        self._load_model_state_pre_hook[handle.id] = hook
        return handle
