"""How an Accelerator is set up: the dataclasses that a script passes to it, as Accelerate has them.

What a script leaves at its default the job's environment may answer (`settings`).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from runtime.config.handlers import KwargsHandler
from runtime.config.settings import Settings


@dataclass
class DataLoaderConfiguration:
    """How data loaders are prepared."""

    split_batches: bool = False  # the script's batch size is that of all processes together
    dispatch_batches: bool | None = None  # rank 0 reads for all; None: for iterable datasets
    even_batches: bool = True  # the last global batch is filled by wrapping around
    use_seedable_sampler: bool = False  # the order is a function of seed and epoch alone
    data_seed: int | None = None  # that seed; None: rank 0's torch seed
    non_blocking: bool = False  # copy to the device without waiting; needs pinned memory
    use_stateful_dataloader: bool = False  # accepted: every prepared data loader has its state
    # `torch`: random orders are torch's; `keyed`: others, in constant time and memory an index.
    shuffle: str = "torch"

    def filled(self, settings: Settings) -> "DataLoaderConfiguration":
        """The same; what was left at its default is the job's to say.

        >>> DataLoaderConfiguration().filled(Settings(split_batches=True)).split_batches
        True
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
    """Where a project's files lie."""

    project_dir: Any = None
    logging_dir: Any = None  # of trackers; default: project_dir
    automatic_checkpoint_naming: bool = False  # project_dir/checkpoints/checkpoint_0, _1, ...
    total_limit: int | None = None  # checkpoints to keep, >= 1; needs automatic naming
    iteration: int = 0  # of the next checkpoint
    save_on_each_node: bool = False  # where machines do not share a file system
    # save_state returns when all states are copied to this machine's memory, and threads write them
    # while the training goes on: see Accelerator.wait_for_checkpoint. Takes as much memory as the
    # states, on the process that writes.
    write_behind: bool = False
    # A checkpoint is on the disk before it counts, and outlasts the machine (fsync); False: it
    # outlasts the process.
    durable: bool = True

    def __post_init__(self) -> None:
        """Fill the logging directory."""
        self.set_directories(self.project_dir)

    def set_directories(self, project_dir: Any = None) -> None:
        """Set the project's directory, and the logging directory if there is none yet."""
        self.project_dir = project_dir
        if self.logging_dir is None:
            self.logging_dir = project_dir


@dataclass
class GradientAccumulationPlugin(KwargsHandler):
    """How gradients are accumulated.

    Raises:
        ValueError: less than one batch for a step.
    """

    num_steps: int | None = None  # batches for each optimizer step, >= 1
    adjust_scheduler: bool = True
    sync_with_dataloader: bool = True  # the end of a data loader ends an accumulation
    sync_each_batch: bool = False  # reduce gradients at each batch: less memory, more traffic
    # An accumulation that a data loader's end cuts short gives the mean over the batches that it
    # has. False divides by num_steps, as Accelerate 1.15 always does.
    mean_of_last_window: bool = True

    def __post_init__(self) -> None:
        """Check the number of batches."""
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
