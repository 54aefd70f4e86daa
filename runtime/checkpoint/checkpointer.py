"""Saves and loads checkpoints of everything that was prepared or registered."""

import functools
import os
from pathlib import Path
from typing import Any

import torch

from runtime.checkpoint import directory, storage
from runtime.checkpoint.contents import (
    load_accelerator_state,
    load_custom_states,
    parts,
    random_part,
)
from runtime.checkpoint.formats import Part, writes
from runtime.checkpoint.registry import Registry
from runtime.checkpoint.sharding import load_sharded, save_sharded
from runtime.checkpoint.snapshot import Snapshots
from runtime.checkpoint.writer import PendingSave, Writer
from runtime.collectives.objects import each_object
from runtime.config.plugins import ProjectConfiguration
from runtime.data.random_states import random_states
from runtime.errors import CheckpointError
from runtime.optim.accumulation import Accumulation
from runtime.parallel.wrap import bare
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState
from runtime.world.log import get_logger
from runtime.world.state import AcceleratorState

logger = get_logger(__name__)
_MIDDLE = (
    "save_state was called in the middle of an accumulation: gradients are not saved, so the "
    "batches accumulated so far are lost on load; call it when sync_gradients is true"
)


class Checkpointer:
    """Saves and loads checkpoints; each method must be called by all processes.

    Attributes:
        project: the directory of checkpoints, and how they are named and kept.
        registry: the objects and hooks that the script has registered.
    """

    def __init__(
        self,
        project: ProjectConfiguration,
        *,
        state: AcceleratorState,
        gradient_state: GradientState,
        prepared: Prepared,
        accumulation: Accumulation,
    ) -> None:
        """Begin with no checkpoint being written.

        Args:
            project: the directory of checkpoints, and how they are named and kept.
            state: the state of this process.
            gradient_state: whether the current batch ends an accumulation.
            prepared: the objects to save and load.
            accumulation: the accumulation, whose `step` is saved and loaded.
        """
        self.project = project
        self.registry = Registry()
        self._state = state
        self._gradient_state = gradient_state
        self._prepared = prepared
        self._accumulation = accumulation
        self._writer = Writer()
        self._snapshots = Snapshots(state.device)
        self._is_saving = False  # the same on all processes

    def save(
        self,
        output_dir: str | os.PathLike[str] | None,
        *,
        scaler: torch.amp.GradScaler | None,
        safe_serialization: bool,
    ) -> Path:
        """Write a checkpoint; see `Accelerator.save_state`."""
        self.wait()
        if not self._gradient_state.sync_gradients:
            logger.warning(_MIDDLE)
        config = self.project
        target = directory.target(config, output_dir)
        makes = writes(config.save_on_each_node)
        folder: Path = directory.from_main(lambda: storage.begun(target), makes=makes)
        if config.save_on_each_node:  # the target may exist on some machines only
            folder = storage.unfinished(target)
        # No variable here refers to the parts, so that they are freed once they are written.
        self._write(self._collected(folder, scaler, safe_serialization), folder, target)
        config.iteration += 1
        if not config.write_behind:
            self.wait()
        return target

    def _collected(
        self, folder: Path, scaler: torch.amp.GradScaler | None, safe_serialization: bool
    ) -> list[Part]:
        """Return all files of the checkpoint, including those of other processes.

        The writing process has all states then, and need not wait for other processes. Hooks and
        sharded models write their own files to the folder.
        """
        own, is_sharded = self._prepared, self._state.fsdp_plugin is not None
        weights = [] if is_sharded else [bare(model).state_dict() for model in own.models]
        for hook in self.registry.save_hooks.values():
            hook(own.models, weights, str(folder))
        shared = not self.project.save_on_each_node
        save_sharded(self._state, folder, own.models, own.optimizers, is_shared=shared)
        common = parts(
            weights,
            [] if is_sharded else own.optimizers,
            own.schedulers,
            own.dataloaders,
            scaler,
            self.registry.objects,
            safe_serialization,
        )
        each = each_object(random_states(self._accumulation.step))
        return common + [random_part(rank, state) for rank, state in enumerate(each)]

    def _write(self, found: list[Part], folder: Path, target: Path) -> None:
        """Start to write the files, on the processes that write."""
        config = self.project
        self._is_saving = True
        if not writes(config.save_on_each_node):
            return
        if config.write_behind:
            found = self._snapshots.take(found)
        facts = {"world_size": self._state.num_processes}
        retain = functools.partial(directory.retain, config)
        self._writer.begin(PendingSave(found, folder, target, facts, config.durable, retain))

    def wait(self) -> None:
        """Wait until the last checkpoint is complete; see `Accelerator.wait_for_checkpoint`."""
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

    def load(
        self,
        input_dir: str | os.PathLike[str] | None,
        *,
        scaler: torch.amp.GradScaler | None,
        load_kwargs: dict[str, Any] | None,
        verify: bool | None,
        map_location: Any,
        **load_model_func_kwargs: Any,
    ) -> None:
        """Load a checkpoint; see `Accelerator.load_state`."""
        self.wait()
        own, looks = self._prepared, writes(self.project.save_on_each_node)
        folder = directory.source(self.project, input_dir, reads=verify, looks=looks)
        models = list(own.models)
        for hook in self.registry.load_hooks.values():
            hook(models, str(folder))
        is_sharded = load_sharded(self._state, folder, models, own.optimizers, trained=own.models)
        found = load_accelerator_state(
            folder,
            [] if is_sharded else models,
            [] if is_sharded else own.optimizers,
            own.schedulers,
            own.dataloaders,
            self._state.process_index,
            scaler,
            map_location,
            load_kwargs,
            **load_model_func_kwargs,
        )
        self._accumulation.step = found.get("step", self._accumulation.step)
        load_custom_states(self.registry.objects, folder, load_kwargs)
