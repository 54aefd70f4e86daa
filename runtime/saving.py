"""What an Accelerator does with checkpoints: it has them written, and loads them."""

import functools
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from runtime import constants, manifest, project
from runtime.checkpointing import (
    bare,
    load_accelerator_state,
    load_custom_state,
    parts,
    random_part,
)
from runtime.configuration import ProjectConfiguration
from runtime.control import StateView
from runtime.errors import CheckpointError
from runtime.files import Part, can_be_safetensors, clean_state_dict_for_safetensors, save
from runtime.gradient import GradientState
from runtime.logging import get_logger
from runtime.objects import each_object
from runtime.sharding import full_state_dict, load_sharded, save_sharded
from runtime.sizes import size_in_bytes
from runtime.snapshot import Snapshots
from runtime.streams import random_states
from runtime.weights import write_weights
from runtime.writing import Job, Writer

logger = get_logger(__name__)
Hook = Callable[..., None]


class Saving(StateView):
    """Mixed into the Accelerator."""

    project_configuration: ProjectConfiguration
    gradient_state: GradientState
    scaler: torch.amp.GradScaler | None
    step: int
    _models: list[nn.Module]
    _optimizers: list[Any]
    _schedulers: list[Any]
    _dataloaders: list[Any]
    _custom_objects: list[Any]
    _save_model_state_pre_hook: OrderedDict[int, Hook]
    _load_model_state_pre_hook: OrderedDict[int, Hook]

    def _begin_saving(self) -> None:
        """Nothing is registered yet."""
        self._custom_objects = []
        self._writer = Writer()
        self._snapshots = Snapshots(self.device)
        self._is_saving = False  # on all processes alike
        self._save_model_state_pre_hook = OrderedDict()
        self._load_model_state_pre_hook = OrderedDict()

    def save(self, obj: Any, f: Any, safe_serialization: bool = False) -> None:
        """Save an object on the main process, or on each machine's if the project says so.

        Args:
            obj: what torch.save takes; for safetensors a dict of tensors.
            f: the file.
            safe_serialization: as safetensors.
        """
        each = self.project_configuration.save_on_each_node
        save(obj, f, save_on_each_node=each, safe_serialization=safe_serialization)

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

    def save_state(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        safe_serialization: bool = True,
        **save_model_func_kwargs: Any,  # noqa: ARG002  # accelerate's: for other engines
    ) -> Path:
        """Write a checkpoint of everything; to be called by all processes.

        It is whole or not there, whenever this is cut short; an older one of the same name stays
        until then. With automatic naming the next free number is taken, and old checkpoints go
        when the new one is there.

        It is there on return; with `ProjectConfiguration(write_behind=True)` only its states are,
        copied, and `wait_for_checkpoint` tells when it is.

        Args:
            output_dir: where to; not needed with automatic naming.
            safe_serialization: weights as safetensors, if the package is there.
            **save_model_func_kwargs: accepted.

        Returns:
            Where it is, or will be.

        Raises:
            ValueError: no directory, and no automatic naming.
            CheckpointError: it cannot be written, or the one before could not.
        """
        self.wait_for_checkpoint()
        config = self.project_configuration
        if not self.gradient_state.sync_gradients:
            logger.warning(
                "save_state in the middle of an accumulation: gradients are not saved, and what "
                "this window has is lost to who loads it; save where sync_gradients is true"
            )
        target = project.target(config, output_dir)
        project.from_main(lambda: manifest.begun(target), makes=self._writes)
        folder = manifest.unfinished(target)
        is_sharded = self.state.fsdp_plugin is not None
        weights = [] if is_sharded else [bare(model).state_dict() for model in self._models]
        for hook in self._save_model_state_pre_hook.values():
            hook(self._models, weights, str(folder))
        shared = not config.save_on_each_node
        save_sharded(self.state, folder, self._models, self._optimizers, is_shared=shared)
        found = self._parts(weights, [] if is_sharded else self._optimizers, safe_serialization)
        self._is_saving = True
        if self._writes:
            if config.write_behind:
                found = self._snapshots.take(found)
            facts = {"world_size": self.num_processes}
            retain = functools.partial(project.retain, config)
            self._writer.begin(Job(found, folder, target, facts, config.durable, retain))
        config.iteration += 1
        if not config.write_behind:
            del found
            self.wait_for_checkpoint()
        return target

    def _parts(
        self, weights: list[dict[str, Any]], optimizers: list[Any], safe_serialization: bool
    ) -> list[Part]:
        """All files, also those of the other processes: who writes needs to wait for nobody."""
        common = parts(
            weights,
            optimizers,
            self._schedulers,
            self._dataloaders,
            self.scaler,
            self._custom_objects,
            safe_serialization,
        )
        own = each_object(random_states(self.step))
        return common + [random_part(rank, state) for rank, state in enumerate(own)]

    def wait_for_checkpoint(self) -> None:
        """Return when what `save_state` has begun is valid; to be called by all processes.

        The next `save_state`, `load_state` and `end_training` do so by themselves; the end of the
        interpreter does, too, but it only shows an error.

        Raises:
            CheckpointError: it could not be written; raised by all processes, once.
        """
        if not self._is_saving:
            return
        self._is_saving = False
        own = None
        try:
            self._writer.wait()
        except CheckpointError as error:
            own = error
        found = [one for one in each_object(own and str(own)) if one is not None]
        if found:
            raise own or CheckpointError(found[0])

    @property
    def _writes(self) -> bool:
        """Whether this process takes care of a directory."""
        each = self.project_configuration.save_on_each_node
        return self.is_local_main_process if each else self.is_main_process

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
        folder = project.source(config, input_dir, reads=verify, looks=self._writes)
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
        self._load_custom(folder, load_kwargs)

    def _load_custom(self, folder: Path, load_kwargs: dict[str, Any] | None) -> None:
        saved = len(list(folder.glob(f"{constants.CUSTOM_STATE_NAME}_*.pkl")))
        if saved != len(self._custom_objects):
            sentence = (
                f"Number of custom checkpoints in folder {folder} does not match the number of "
                f"registered objects: found {saved}, registered {len(self._custom_objects)}"
            )
            raise RuntimeError(sentence)
        for index, one in enumerate(self._custom_objects):
            load_custom_state(one, folder, index, load_kwargs)

    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> dict[str, Any]:
        """A model's weights.

        Args:
            model: prepared, or not.
            unwrap: under the names of the script's own model, which a sharded one always has.

        Returns:
            The whole weights; those of a sharded model are gathered by all ranks, for rank 0 only.
        """
        if self.state.is_fsdp2:
            return full_state_dict(model)
        return dict((bare(model) if unwrap else model).state_dict())

    def save_model(
        self,
        model: nn.Module,
        save_directory: str | os.PathLike[str],
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = True,
    ) -> None:
        """Write a model's weights, in one file or several with an index, as Hugging Face reads.

        Args:
            model: prepared, or not.
            save_directory: where to.
            max_shard_size: of one file: bytes, or as `5GB`, `200MiB`.
            safe_serialization: as safetensors, if the package is there.

        Raises:
            RuntimeError: a weight is on the meta device: it has no numbers.
        """
        if any(parameter.is_meta for parameter in model.parameters()):
            sentence = "You can't save the model since some parameters are on the meta device."
            raise RuntimeError(sentence)
        weights = self.get_state_dict(model)
        if not self._writes or not weights:
            return
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        is_safe = can_be_safetensors(safe_serialization)
        if is_safe:
            weights = clean_state_dict_for_safetensors(weights)
        write_weights(self.save, weights, folder, size_in_bytes(max_shard_size), is_safe)
