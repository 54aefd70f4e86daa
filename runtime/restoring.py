"""How an Accelerator puts a checkpoint back."""

import os
from typing import Any

from runtime.checkpoint import directory
from runtime.checkpoint.contents import load_accelerator_state, load_custom_states
from runtime.checkpoint.formats import writes
from runtime.checkpoint.sharding import load_sharded
from runtime.saving import Saving


class Restoring(Saving):
    """Mixed into the Accelerator: what has been saved can be loaded."""

    def load_state(
        self,
        input_dir: str | os.PathLike[str] | None = None,
        load_kwargs: dict[str, Any] | None = None,
        *,
        verify: bool | None = None,
        **load_model_func_kwargs: Any,
    ) -> None:
        """Put a checkpoint back; to be called by all processes, as many as saved it or others.

        Args:
            input_dir: where it is; with automatic naming by default the newest that is whole.
            load_kwargs: for torch.load.
            verify: read every byte and compare checksums, or names and sizes only. By default the
                newest one is verified, as there is another to fall back on; for one that is named
                it would cost more than to load it.
            **load_model_func_kwargs: for the models' load_state_dict; `map_location`: `cpu` or
                `on_device`.

        Raises:
            ValueError: there is none, or it is damaged.
            RuntimeError: as many objects as were saved must be registered.
            UnpicklingError: a file holds an object that would have to be made by its own code.
            CheckpointError: the one before could not be written.
        """
        self.wait_for_checkpoint()
        config = self.project_configuration
        looks = writes(config.save_on_each_node)
        folder = directory.source(config, input_dir, reads=verify, looks=looks)
        models = list(self._models)
        for hook in self._load_model_state_pre_hook.values():
            hook(models, str(folder))
        is_sharded = load_sharded(
            self.state, folder, models, self._optimizers, trained=self._models
        )
        found = load_accelerator_state(
            folder,
            [] if is_sharded else models,
            [] if is_sharded else self._optimizers,
            self._schedulers,
            self._dataloaders,
            self.process_index,
            self.scaler,
            load_model_func_kwargs.pop("map_location", None),
            load_kwargs,
            **load_model_func_kwargs,
        )
        self.step = found.get("step", self.step)
        load_custom_states(self._custom_objects, folder, load_kwargs)
