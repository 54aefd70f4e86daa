"""Accelerate's dataclasses that configure an Accelerator.

The environment variables in `settings` replace the defaults.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from runtime.config.arguments import whole
from runtime.config.handlers import KwargsHandler
from runtime.config.settings import Settings


@dataclass
class DataLoaderConfiguration:
    """How data loaders are prepared.

    The environment variables ACCELERATE_SPLIT_BATCHES, ACCELERATE_DISPATCH_BATCHES,
    ACCELERATE_EVEN_BATCHES and ACCELERATE_USE_SEEDABLE_SAMPLER replace defaults.

    Attributes:
        split_batches: whether the script's batch size is divided among the processes; if not,
            each process has batches of that size.
        dispatch_batches: whether rank 0 reads the batches for all processes. None: only those of
            iterable datasets.
        even_batches: whether the last global batch is filled with the first samples, so that all
            processes have the same number of batches.
        use_seedable_sampler: whether a random order depends on the seed and the epoch only.
        data_seed: the seed of that order. None: the seed of rank 0's torch generator.
        non_blocking: whether the host does not wait for the copy of a batch to the device; this
            needs pinned memory. In both cases a GPU copies a batch while it computes the one
            before.
        use_stateful_dataloader: whether prepared data loaders are instances of torchdata's
            StatefulDataLoader, too, which must be installed. Every prepared data loader has a
            state.
        shuffle: how a random order is drawn. `torch`: as torch does, which needs memory for all
            indices. `keyed`: by another algorithm, which computes each index in constant time and
            memory.
    """

    split_batches: bool = False
    dispatch_batches: bool | None = None
    even_batches: bool = True
    use_seedable_sampler: bool = False
    data_seed: int | None = None
    non_blocking: bool = False
    use_stateful_dataloader: bool = False
    shuffle: Literal["torch", "keyed"] = "torch"

    def filled(self, settings: Settings) -> "DataLoaderConfiguration":
        """Return a copy in which settings of the environment replace the defaults.

        >>> DataLoaderConfiguration().filled(Settings(split_batches=True)).split_batches
        True

        Args:
            settings: the settings of the environment.
        """
        answers = {
            field.name: answer
            for field in dataclasses.fields(self)
            if getattr(self, field.name) == field.default
            and (answer := getattr(settings, field.name, None)) is not None
        }
        return dataclasses.replace(self, **answers)


@dataclass
class ProjectConfiguration:
    """The directories of a project, and how checkpoints are named, kept and written.

    Attributes:
        project_dir: the directory of checkpoints and logs.
        logging_dir: the directory of trackers. None: `project_dir`.
        automatic_checkpoint_naming: whether checkpoints are named
            `project_dir/checkpoints/checkpoint_0`, `checkpoint_1`, ...
        total_limit: the number of checkpoints to keep, >= 1; needs automatic naming. None: all.
        iteration: the number of the next checkpoint, >= 0.
        save_on_each_node: whether the first process of each machine writes files; for machines
            that do not share a file system.
        write_behind: whether `save_state` returns when the states are copied to the memory of the
            host; threads then write them while the training continues. The process that writes
            needs as much memory as the states. See `Accelerator.wait_for_checkpoint`.
        durable: whether a checkpoint is flushed to the disk (fsync) before it counts as complete,
            so that it survives a crash of the machine. If not, it survives a crash of the process
            only.
    """

    project_dir: Any = None
    logging_dir: Any = None
    automatic_checkpoint_naming: bool = False
    total_limit: int | None = None
    iteration: int = 0
    save_on_each_node: bool = False
    write_behind: bool = False
    durable: bool = True

    def __post_init__(self) -> None:
        """Set the default of the logging directory."""
        self.set_directories(self.project_dir)

    def set_directories(self, project_dir: Any = None) -> None:
        """Set the project directory, and the logging directory if it is None.

        Args:
            project_dir: the project directory.
        """
        self.project_dir = project_dir
        if self.logging_dir is None:
            self.logging_dir = project_dir


@dataclass
class GradientAccumulationPlugin(KwargsHandler):
    """How gradients are accumulated.

    Attributes:
        num_steps: the number of batches for each optimizer step, >= 1. None: 1.
        adjust_scheduler: without effect, as in Accelerate 1.15; see
            `GradientState.adjust_scheduler`.
        sync_with_dataloader: whether the last batch of a data loader ends an accumulation.
        sync_each_batch: whether gradients are reduced after each batch, which needs less memory
            and more communication.
        mean_of_last_window: whether an accumulation that the end of a data loader cuts short gives
            the mean over the batches that it has. If not, the sum is divided by `num_steps`, as
            Accelerate 1.15 always does.

    Raises:
        ValueError: `num_steps` is less than 1.
    """

    num_steps: int | None = None
    adjust_scheduler: bool = True
    sync_with_dataloader: bool = True
    sync_each_batch: bool = False
    mean_of_last_window: bool = True

    def __post_init__(self) -> None:
        """Check the number of batches."""
        if self.num_steps is not None:
            self.num_steps = whole(
                self.num_steps, "gradient_accumulation_steps", "the batches of a step"
            )
        if self.num_steps is not None and self.num_steps < 1:
            sentence = f"gradient_accumulation_steps must be at least 1, got {self.num_steps}"
            raise ValueError(sentence)


def dataloader_configuration(
    config: DataLoaderConfiguration | None, split_batches: bool | None, settings: Settings
) -> DataLoaderConfiguration:
    """Return the configuration of an Accelerator's data loaders."""
    filled = (config or DataLoaderConfiguration()).filled(settings)
    if split_batches is not None:
        filled.split_batches = split_batches
    return filled


def project_configuration(
    config: ProjectConfiguration | None, project_dir: Any
) -> ProjectConfiguration:
    """Return the configuration of an Accelerator's project."""
    config = config or ProjectConfiguration(project_dir)
    if project_dir is not None and config.project_dir is None:
        config.set_directories(project_dir)
    return config


def accumulation_plugin(
    plugin: GradientAccumulationPlugin | None, steps: int, settings: Settings
) -> GradientAccumulationPlugin:
    """Return the plugin that was given, or one for the steps that were given.

    Raises:
        ValueError: both were given.
    """
    if plugin is not None and steps != 1:
        sentence = (
            "You can only pass one of `gradient_accumulation_steps` and "
            "`gradient_accumulation_plugin`."
        )
        raise ValueError(sentence)
    if plugin is not None:
        return plugin
    answer = settings.gradient_accumulation_steps if steps == 1 else None
    return GradientAccumulationPlugin(num_steps=first(answer, steps))


def first(*values: Any) -> Any:
    """Return the first value that is not None; None if all are.

    >>> first(None, False, True), first(None)
    (False, None)
    """
    return next((value for value in values if value is not None), None)
