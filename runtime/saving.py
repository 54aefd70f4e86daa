"""What an Accelerator does with checkpoints: where they are, which one is taken, what goes."""

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from runtime import constants, manifest
from runtime.checkpointing import (
    bare,
    load_accelerator_state,
    load_custom_state,
    save_accelerator_state,
    save_custom_state,
)
from runtime.configuration import ProjectConfiguration
from runtime.control import StateView
from runtime.files import can_be_safetensors, clean_state_dict_for_safetensors, save
from runtime.logging import get_logger
from runtime.objects import broadcast_object_list
from runtime.sharding import full_state_dict, load_sharded, save_sharded
from runtime.sizes import by_size, size_in_bytes

logger = get_logger(__name__)
CHECKPOINTS = "checkpoints"  # of a project, in its directory
Hook = Callable[..., None]


class Saving(StateView):
    """Mixed into the Accelerator."""

    project_configuration: ProjectConfiguration
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
        self._save_model_state_pre_hook = OrderedDict()
        self._load_model_state_pre_hook = OrderedDict()

    def save(self, obj: Any, f: Any, safe_serialization: bool = False) -> None:
        """See `files.save`."""
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

        Args:
            output_dir: where to; not needed with automatic naming.
            safe_serialization: weights as safetensors, if the package is there.
            **save_model_func_kwargs: accepted.

        Returns:
            Where it is.

        Raises:
            ValueError: no directory, and no automatic naming.
        """
        target = self._target(output_dir)
        folder = self._on_all(lambda: manifest.begun(target))
        is_sharded = self.state.fsdp_plugin is not None
        weights = [] if is_sharded else [bare(model).state_dict() for model in self._models]
        for hook in self._save_model_state_pre_hook.values():
            hook(self._models, weights, str(folder))
        save_sharded(self.state, folder, self._models, self._optimizers)
        save_accelerator_state(
            folder,
            weights,
            [] if is_sharded else self._optimizers,
            self._schedulers,
            self._dataloaders,
            self.process_index,
            self.step,
            self.scaler,
            self.project_configuration.save_on_each_node,
            safe_serialization,
        )
        for index, one in enumerate(self._custom_objects):
            each = self.project_configuration.save_on_each_node
            save_custom_state(one, folder, index, save_on_each_node=each)
        self.wait_for_everyone()
        if self._writes:
            manifest.finished(folder, target, {"world_size": self.num_processes})
            self._retain(target.parent)
        self.wait_for_everyone()
        self.project_configuration.iteration += 1
        return target

    @property
    def _writes(self) -> bool:
        """Whether this process takes care of a directory."""
        each = self.project_configuration.save_on_each_node
        return self.is_local_main_process if each else self.is_main_process

    def _on_all(self, make: Callable[[], Path]) -> Path:
        """Let one process make a directory, which all then see."""
        made = make() if self._writes else None
        return Path(broadcast_object_list([made])[0])

    @property
    def _checkpoints(self) -> Path:
        return Path(self.project_configuration.project_dir, CHECKPOINTS)

    def _target(self, output_dir: str | os.PathLike[str] | None) -> Path:
        config = self.project_configuration
        if not config.automatic_checkpoint_naming:
            if output_dir is None:
                sentence = "save_state needs output_dir, or automatic_checkpoint_naming"
                raise ValueError(sentence)
            return Path(output_dir).expanduser()
        known = manifest.numbered(self._checkpoints)
        taken = manifest.number(known[-1]) + 1 if known else 0
        config.iteration = broadcast_object_list([max(config.iteration, taken)])[0]
        return self._checkpoints / f"checkpoint_{config.iteration}"

    def _retain(self, parent: Path) -> None:
        limit = self.project_configuration.total_limit
        if not self.project_configuration.automatic_checkpoint_naming or limit is None:
            return
        for folder in manifest.retain(parent, limit):
            logger.info("removed %s, as total_limit is %d", folder, limit)

    def load_state(
        self,
        input_dir: str | os.PathLike[str] | None = None,
        load_kwargs: dict[str, Any] | None = None,
        **load_model_func_kwargs: Any,
    ) -> None:
        """Put a checkpoint back; to be called by all processes, as many as saved it or others.

        Args:
            input_dir: where it is; with automatic naming by default the newest that is whole.
            load_kwargs: for torch.load.
            **load_model_func_kwargs: for the models' load_state_dict; `map_location`: `cpu` or
                `on_device`.

        Raises:
            ValueError: there is none, or it is damaged.
            RuntimeError: as many objects as were saved must be registered.
        """
        folder = self._source(input_dir)
        models = list(self._models)
        for hook in self._load_model_state_pre_hook.values():
            hook(models, str(folder))
        is_sharded = load_sharded(self.state, folder, models, self._optimizers)
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
        saved = len(list(folder.glob(f"{constants.CUSTOM_STATE_NAME}_*.pkl")))
        if saved != len(self._custom_objects):
            sentence = (
                f"Number of custom checkpoints in folder {folder} does not match the number of "
                f"registered objects: found {saved}, registered {len(self._custom_objects)}"
            )
            raise RuntimeError(sentence)
        for index, one in enumerate(self._custom_objects):
            load_custom_state(one, folder, index)

    def _source(self, input_dir: str | os.PathLike[str] | None) -> Path:
        """The directory to load from; the main process decides, so that all load the same."""
        chosen: list[Any] = [None]
        if self.is_main_process:
            try:
                chosen = [self._newest() if input_dir is None else _given(Path(input_dir))]
            except ValueError as error:
                chosen = [error]
        (found,) = broadcast_object_list(chosen)
        if isinstance(found, ValueError):
            raise found
        return Path(found)

    def _newest(self) -> Path:
        if not self.project_configuration.automatic_checkpoint_naming:
            sentence = "No input_dir provided and automatic checkpoint naming is disabled."
            raise ValueError(sentence)
        known = manifest.numbered(self._checkpoints)
        for folder in reversed(known):
            problem = manifest.damage(folder)
            if problem is None:
                return folder
            logger.warning("passed over: %s", problem)
        sentence = f"{self._checkpoints} has no checkpoint that is whole, of {len(known)}"
        raise ValueError(sentence)

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
        _write_shards(self.save, weights, folder, size_in_bytes(max_shard_size), is_safe)


def _given(folder: Path) -> Path:
    folder = folder.expanduser()
    if not folder.is_dir():
        sentence = f"Tried to find {folder} but folder does not exist"
        raise ValueError(sentence)
    if manifest.read(folder) is not None and (problem := manifest.damage(folder)) is not None:
        raise ValueError(problem)
    return folder


def _write_shards(
    write: Callable[..., None], weights: dict[str, Any], folder: Path, limit: int, is_safe: bool
) -> None:
    pattern = constants.SAFE_WEIGHTS_PATTERN_NAME if is_safe else constants.WEIGHTS_PATTERN_NAME
    for old in folder.iterdir():  # an earlier save may have had more of them
        if re.fullmatch(re.escape(pattern).replace(r"\{suffix\}", r"-\d{5}-of-\d{5}"), old.name):
            old.unlink()
    shards = by_size(weights, limit)
    files = {
        pattern.format(suffix=f"-{i:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""): shard
        for i, shard in enumerate(shards, 1)
    }
    for name, shard in files.items():
        write(shard, folder / name, safe_serialization=is_safe)
    if len(shards) == 1:
        return
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in weights.values())},
        "weight_map": {key: name for name, shard in files.items() for key in shard},
    }
    name = constants.SAFE_WEIGHTS_INDEX_NAME if is_safe else constants.WEIGHTS_INDEX_NAME
    (folder / name).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
