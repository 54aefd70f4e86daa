"""How an Accelerator has checkpoints written: it collects states, and hands them to a writer."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.checkpoint import directory, storage
from runtime.checkpoint.contents import parts, random_part
from runtime.checkpoint.formats import Part, writes
from runtime.checkpoint.sharding import save_sharded
from runtime.checkpoint.snapshot import Snapshots
from runtime.checkpoint.writer import Job, Writer
from runtime.collectives.objects import each_object
from runtime.config.plugins import ProjectConfiguration
from runtime.data.random_states import random_states
from runtime.errors import CheckpointError
from runtime.parallel.wrap import bare
from runtime.registering import Registering
from runtime.world.gradient_state import GradientState
from runtime.world.log import get_logger

logger = get_logger(__name__)


class Saving(Registering):
    """Mixed into the Accelerator."""

    project_configuration: ProjectConfiguration
    gradient_state: GradientState
    scaler: torch.amp.GradScaler | None
    step: int
    _models: list[nn.Module]
    _optimizers: list[Any]
    _schedulers: list[Any]
    _dataloaders: list[Any]

    def _begin_saving(self) -> None:
        """Nothing is being written yet."""
        self._writer = Writer()
        self._snapshots = Snapshots(self.device)
        self._is_saving = False  # on all processes alike

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

        What a checkpoint in that directory has and the new one has not is removed; other files
        stay. Hooks are given a directory of the checkpoint's name, where it is being written. Links
        at or below the directory are refused; directories above it may be links.

        It is there on return; with `ProjectConfiguration(write_behind=True)` only its states are,
        copied, and `wait_for_checkpoint` tells when it is.

        Args:
            output_dir: where to; not needed with automatic naming.
            safe_serialization: weights as safetensors, if the package is there.
            **save_model_func_kwargs: accepted.

        Returns:
            Where it is, or will be.

        Raises:
            ValueError: no directory, and no automatic naming; or the directory is a link.
            CheckpointError: it cannot be written, or the one before could not.
        """
        self.wait_for_checkpoint()
        if not self.gradient_state.sync_gradients:
            logger.warning(
                "save_state in the middle of an accumulation: gradients are not saved, and what "
                "this window has is lost to who loads it; save where sync_gradients is true"
            )
        config = self.project_configuration
        target = directory.target(config, output_dir)
        makes = writes(config.save_on_each_node)
        folder: Path = directory.from_main(lambda: storage.begun(target), makes=makes)
        if config.save_on_each_node:  # the target may be there on some machines only
            folder = storage.unfinished(target)
        # In no variable here: what is written is free then.
        self._write(self._collected(folder, safe_serialization), folder, target)
        config.iteration += 1
        if not config.write_behind:
            self.wait_for_checkpoint()
        return target

    def _collected(self, folder: Path, safe_serialization: bool) -> list[Part]:
        """All files, also those of the other processes: who writes needs to wait for nobody.

        What hooks and sharded models write themselves is in the folder then.
        """
        is_sharded = self.state.fsdp_plugin is not None
        weights = [] if is_sharded else [bare(model).state_dict() for model in self._models]
        for hook in self._save_model_state_pre_hook.values():
            hook(self._models, weights, str(folder))
        shared = not self.project_configuration.save_on_each_node
        save_sharded(self.state, folder, self._models, self._optimizers, is_shared=shared)
        common = parts(
            weights,
            [] if is_sharded else self._optimizers,
            self._schedulers,
            self._dataloaders,
            self.scaler,
            self._custom_objects,
            safe_serialization,
        )
        own = each_object(random_states(self.step))
        return common + [random_part(rank, state) for rank, state in enumerate(own)]

    def _write(self, found: list[Part], folder: Path, target: Path) -> None:
        """Begin to, on a process that takes care of a directory."""
        config = self.project_configuration
        self._is_saving = True
        if not writes(config.save_on_each_node):
            return
        if config.write_behind:
            found = self._snapshots.take(found)
        facts = {"world_size": self.num_processes}
        retain = functools.partial(directory.retain, config)
        self._writer.begin(Job(found, folder, target, facts, config.durable, retain))

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
