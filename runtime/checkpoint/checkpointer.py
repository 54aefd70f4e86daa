"""Saves and loads checkpoints of everything that was prepared or registered."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runtime.checkpoint import atomic, directory, manifest
from runtime.checkpoint.contents import (
    has_weights,
    load_accelerator_state,
    load_custom_states,
    parts,
    random_part,
)
from runtime.checkpoint.copies import Copies
from runtime.checkpoint.formats import Part, writes
from runtime.checkpoint.registry import Registry
from runtime.checkpoint.sharding import load_sharded, save_sharded
from runtime.checkpoint.sizes import tensor_bytes
from runtime.checkpoint.snapshot import Snapshots
from runtime.checkpoint.writer import PendingSave, Writer
from runtime.collectives.objects import each_object
from runtime.config.plugins import ProjectConfiguration
from runtime.data.random_states import random_states
from runtime.errors import CheckpointError
from runtime.optim.accumulation import Accumulation
from runtime.parallel import arrivals
from runtime.parallel.wrap import bare
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState
from runtime.world.log import get_logger
from runtime.world.state import AcceleratorState
from runtime.world.warn import warn_once

logger = get_logger(__name__)
_MIDDLE = (
    "save_state was called in the middle of an accumulation: gradients are not saved, so the "
    "batches accumulated so far are lost on load; call it when sync_gradients is true"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What an automatic checkpoint contains beyond one of `save_state`.

    Attributes:
        facts: additional entries of the manifest, which are JSON values.
        dataloaders: objects with the states of the data loaders; None for the loaders.
        random: additional entries of the file of this process' random states.
        goes_on: whether nothing but the next steps of the prepared optimizers, and those through
            them, will change parameters and the states of optimizers: an accelerator then copies
            these beside what it does until the first of these steps.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    dataloaders: Sequence[Any] | None = None
    random: Mapping[str, Any] = field(default_factory=dict)
    goes_on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a checkpoint is written to.

    Attributes:
        folder: the final directory.
        on_each_machine: whether the first process of each machine writes a checkpoint, instead of
            the main process only.
        is_durable: whether to flush all files to disk before the checkpoint is complete.
    """

    folder: Path
    on_each_machine: bool = False
    is_durable: bool = True


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
        self._snapshots = Snapshots()
        self._can_copy_beside = True  # until a script has changed what was being copied
        self._is_saving = False  # the same on all processes

    def save(
        self,
        output_dir: str | os.PathLike[str] | None,
        *,
        scaler: torch.amp.GradScaler | None,
        safe_serialization: bool,
        then: Callable[[], None] | None = None,
    ) -> Path:
        """Write a checkpoint; see `Accelerator.save_state`.

        Args:
            output_dir: the directory; ignored with automatic naming.
            scaler: the gradient scaler, with fp16.
            safe_serialization: whether to save weights as safetensors, if that is installed.
            then: a function that the writing processes call once the checkpoint is complete, in
                the writer's thread; by default it removes old checkpoints of the project.
        """
        self.wait()
        if not self._gradient_state.sync_gradients:
            logger.warning(_MIDDLE)
        config = self.project
        target = directory.target(config, output_dir)
        each = config.save_on_each_node
        self.write(
            Target(folder=target, on_each_machine=each, is_durable=config.durable),
            then=then or functools.partial(directory.retain, config),
            scaler=scaler,
            safe_serialization=safe_serialization,
            write_behind=config.write_behind,
        )
        config.iteration += 1
        return target

    def write(
        self,
        target: Target,
        *,
        then: Callable[[], None],
        scaler: torch.amp.GradScaler | None,
        safe_serialization: bool = True,
        write_behind: bool = True,
        more: "Additions | None" = None,
    ) -> None:
        """Write a checkpoint to a directory.

        Args:
            target: the directory, and who writes there.
            then: a function that the writing process calls once the checkpoint is complete.
            scaler: the gradient scaler, with fp16.
            safe_serialization: whether to save weights as safetensors, if that is installed.
            write_behind: whether to return when the states are copied; `wait` waits for the rest.
            more: what the checkpoint contains beyond one of `save_state`.

        Raises:
            CheckpointError: this checkpoint, or the one before, cannot be written.
        """
        self.wait()
        more, final, makes = more or Additions(), target.folder, writes(target.on_each_machine)
        folder: Path = directory.from_main(lambda: atomic.begun(final), makes=makes)
        if target.on_each_machine:  # the directory may exist on some machines only
            folder = atomic.unfinished(final)
        # No variable here refers to the parts, so that they are freed once they are written.
        self._write(
            self._collected(folder, scaler, safe_serialization, more, not target.on_each_machine),
            folder,
            target,
            more=more,
            then=then,
            write_behind=write_behind,
        )
        if not write_behind:
            self.wait()

    def _facts(self) -> dict[str, Any]:
        """Return the entries of each checkpoint's manifest beside its files."""
        size = {"world_size": self._state.num_processes}
        return size | arrivals.facts(self._prepared.models)

    @property
    def writes_files_itself(self) -> bool:
        """Whether a sharded model, or a hook of the script, writes files of its own."""
        return self.is_sharded or bool(self.registry.save_hooks)

    @property
    def is_sharded(self) -> bool:
        """Whether the processes write their parts of a sharded model."""
        return self._state.saves_parts

    def state_bytes(self) -> int:
        """Return the size of what a checkpoint contains, counting tensors only."""
        own = self._prepared
        others = *own.optimizers, *own.schedulers, *self.registry.objects
        states = *(bare(one).state_dict() for one in own.models), *(o.state_dict() for o in others)
        return tensor_bytes(states)

    def _collected(
        self,
        folder: Path,
        scaler: torch.amp.GradScaler | None,
        safe_serialization: bool,
        more: "Additions | None" = None,
        is_shared: bool = True,
    ) -> list[Part]:
        """Return all files of the checkpoint, including those of other processes.

        The writing process has all states then, and need not wait for other processes. Hooks and
        sharded models write their own files to the folder.
        """
        more = more or Additions()
        own, is_sharded = self._prepared, self.is_sharded
        weights = [] if is_sharded else [bare(model).state_dict() for model in own.models]
        for hook in self.registry.save_hooks.values():
            hook(own.models, weights, str(folder))
        save_sharded(self._state, folder, own.models, own.optimizers, is_shared=is_shared)
        common = parts(
            weights,
            [] if is_sharded else own.optimizers,
            own.schedulers,
            own.dataloaders if more.dataloaders is None else more.dataloaders,
            scaler,
            self.registry.objects,
            safe_serialization,
        )
        each = each_object(random_states(self._accumulation.step) | dict(more.random))
        own_batches = self._state.coordinate.one_of_each(each)
        return common + [random_part(rank, state) for rank, state in enumerate(own_batches)]

    def _write(
        self,
        found: list[Part],
        folder: Path,
        target: Target,
        *,
        more: Additions,
        then: Callable[[], None],
        write_behind: bool,
    ) -> None:
        """Start to write the files, on the processes that write."""
        self._is_saving = True
        facts = self._facts() | dict(more.facts)
        if not writes(target.on_each_machine):
            return
        copies = Copies()
        if write_behind:
            found, copies = self._copied(found, goes_on=more.goes_on)
        self._writer.begin(
            PendingSave(found, folder, target.folder, facts, target.is_durable, then, copies.wait)
        )

    def _copied(self, found: list[Part], *, goes_on: bool) -> tuple[list[Part], Copies]:
        """Return a snapshot of the files, and its copies.

        What the script does from now on does not change the snapshot, except with `goes_on`.
        """
        snapshots = self._snapshots
        self._can_copy_beside &= snapshots.copies.are_sound
        can = self._can_copy_beside and snapshots.copies_beside(self._state.device)
        beside = self._prepared.stepped() if goes_on and can else []
        found = snapshots.take(found, beside)
        copies = snapshots.copies
        self._gradient_state.copies = copies if beside else None
        if not beside:
            copies.hold()
        return found, copies

    @property
    def is_written(self) -> bool:
        """Whether this process has written its files of the last checkpoint."""
        return self._writer.is_idle

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that threads of this process have spent on the last checkpoint."""
        return self._writer.cpu_seconds

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
    ) -> dict[str, Any]:
        """Load a checkpoint; see `Accelerator.load_state`.

        Returns:
            What the file of this process' random states has beside them.
        """
        self.wait()
        looks = writes(self.project.save_on_each_node)
        folder = directory.source(self.project, input_dir, reads=verify, looks=looks)
        self._tell_of_other_models(folder)
        return self.load_from(
            folder,
            scaler=scaler,
            load_kwargs=load_kwargs,
            map_location=map_location,
            **load_model_func_kwargs,
        )

    def _tell_of_other_models(self, folder: Path) -> None:
        """Warn if the checkpoint has the weights of a model that the script has not prepared."""
        index, saved = len(self._prepared.models), manifest.Contents.of(folder)
        if self.is_sharded or self.registry.load_hooks or not has_weights(saved, index):
            return
        warn_once(
            f"{folder} has the weights of a model that the script has not prepared: call "
            "load_state() after prepare() of all models"
        )

    def load_from(
        self,
        folder: Path,
        *,
        scaler: torch.amp.GradScaler | None,
        load_kwargs: dict[str, Any] | None = None,
        map_location: Any = None,
        **load_model_func_kwargs: Any,
    ) -> dict[str, Any]:
        """Load the checkpoint in a directory, which may be another one on each process.

        Returns:
            What the file of this process' random states has beside them.
        """
        self.wait()
        own = self._prepared
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
            self._state.coordinate.rank,
            scaler,
            map_location,
            load_kwargs,
            **load_model_func_kwargs,
        )
        self._accumulation.step = found.get("step", self._accumulation.step)
        load_custom_states(self.registry.objects, folder, load_kwargs)
        self._follow_order_of_gradients(folder)
        return found

    def _follow_order_of_gradients(self, folder: Path) -> None:
        models = self._prepared.models
        if arrivals.are_kept(models):
            makes = self._state.is_main_process
            found = directory.from_main(lambda: manifest.read(folder), makes=makes)
            arrivals.follow(models, found or {})
