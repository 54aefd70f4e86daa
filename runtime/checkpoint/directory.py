"""The checkpoints of a project: which name the next one gets, which is loaded, which are removed.

In this module `makes` and `looks` say whether this process accesses the file system: the main
process does, and with `save_on_each_node` the first process of each machine.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runtime.checkpoint import atomic, manifest
from runtime.checkpoint.stores.store import Store, newest
from runtime.checkpoint.stores.volume import Volume
from runtime.collectives.objects import broadcast_object_list, each_object
from runtime.config.arguments import path
from runtime.config.plugins import ProjectConfiguration
from runtime.errors import CheckpointError
from runtime.world.log import get_logger

logger = get_logger(__name__)
_AUTOMATIC = "ProjectConfiguration(automatic_checkpoint_naming=True)"
CHECKPOINTS = "checkpoints"  # the directory of checkpoints in the directory of a project


def gathered(make: Callable[[], Any], *, makes: bool) -> list[Any]:
    """Return the results of all processes, in order of rank. All processes must call this.

    Args:
        make: the function to call.
        makes: whether this process calls it; the result is None where it is not called.

    Raises:
        OSError: the function raised it on a process; all processes raise the first error.
        ValueError: likewise.
        CheckpointError: likewise.
    """
    made: Any = None
    if makes:
        try:
            made = make()
        except (OSError, ValueError, CheckpointError) as error:
            made = error
    found = each_object(made)
    for one in (made, *found):
        if isinstance(one, Exception):
            raise one
    return found


def from_main(make: Callable[[], Any], *, makes: bool) -> Any:
    """Return the result of the main process on all processes; see `gathered`.

    Args:
        make: the function to call.
        makes: whether this process calls it; true on the main process.
    """
    return gathered(make, makes=makes)[0]


def first_problem(look: Callable[[], str | None], *, looks: bool) -> str | None:
    """Return the first problem that a process has found, on all processes; None if there is none.

    Args:
        look: returns the problem that this process finds, or None.
        looks: whether this process calls `look`.
    """
    return next((one for one in gathered(look, makes=looks) if one is not None), None)


def checkpoints(config: ProjectConfiguration) -> Path:
    """Return the directory of a project's checkpoints."""
    return Path(config.project_dir, CHECKPOINTS)


def target(config: ProjectConfiguration, output_dir: str | os.PathLike[str] | None) -> Path:
    """Return the directory of the next checkpoint; the main process decides.

    With automatic naming the main process chooses the next free number, and each process takes
    that number in its own project directory.

    Args:
        config: the configuration of the project.
        output_dir: the directory that the script has passed; ignored with automatic naming.

    Raises:
        ValueError: there is no directory and no automatic naming.
    """
    if not config.automatic_checkpoint_naming:
        if output_dir is None:
            sentence = f"save_state needs an output_dir, or {_AUTOMATIC}"
            raise ValueError(sentence)
        # Absolute, because the working directory may change while threads write the checkpoint.
        given = path(output_dir, "save_state()").expanduser().absolute()
        return Path(broadcast_object_list([given])[0])
    parent = checkpoints(config).absolute()
    known = manifest.checkpoints_in(parent)
    number = max(config.iteration, manifest.number(known[-1]) + 1 if known else 0)
    while os.path.lexists(parent / manifest.name_of(number)):  # not a checkpoint
        number += 1
    (config.iteration,) = broadcast_object_list([number])
    return parent / manifest.name_of(config.iteration)


def retain(config: ProjectConfiguration) -> None:
    """Remove the oldest checkpoints beyond `total_limit`; needs automatic naming."""
    if not config.automatic_checkpoint_naming or config.total_limit is None:
        return
    for name in Store(Volume(checkpoints(config)), config.total_limit).retain():
        logger.info("removed %s because total_limit is %d", name, config.total_limit)


def source(
    config: ProjectConfiguration,
    input_dir: str | os.PathLike[str] | None,
    *,
    reads: bool | None,
    looks: bool,
) -> Path:
    """Return the checkpoint to load, the same on all processes. All processes must call this.

    Args:
        config: the configuration of the project.
        input_dir: the checkpoint that the script has passed; None for the newest undamaged one.
        reads: whether to read every byte and compare checksums; None to do so only for the newest
            checkpoint, which an older one can replace.
        looks: whether this process checks the directories.

    Raises:
        ValueError: there is no checkpoint, or `input_dir` is damaged.
    """
    if input_dir is None:
        return _newest(config, reads=reads is not False, looks=looks)
    folder = Path(broadcast_object_list([path(input_dir, "load_state()").expanduser()])[0])
    problem = first_problem(lambda: _damage_of_given(folder, reads=bool(reads)), looks=looks)
    if problem is not None:
        raise ValueError(problem)
    return folder


def _newest(config: ProjectConfiguration, *, reads: bool, looks: bool) -> Path:
    if not config.automatic_checkpoint_naming:
        sentence = (
            "No input_dir provided and automatic checkpoint naming is disabled: load_state needs "
            f"the directory of a checkpoint, or {_AUTOMATIC}"
        )
        raise ValueError(sentence)
    parent = checkpoints(config)
    numbers = from_main(
        lambda: [manifest.number(one) for one in manifest.checkpoints_in(parent)], makes=looks
    )

    def problem(number: int) -> str | None:
        folder = parent / manifest.name_of(number)
        return first_problem(partial(manifest.damage, folder, reads=reads), looks=looks)

    found = newest(numbers, problem)
    for one in found.skipped:
        logger.warning("skipped a damaged checkpoint: %s", one.reason)
    if found.number is not None:
        return parent / manifest.name_of(found.number)
    sentence = f"{parent} must have an undamaged checkpoint, got {len(found.skipped)} damaged ones"
    raise ValueError(sentence)


def _damage_of_given(folder: Path, *, reads: bool) -> str | None:
    if not folder.is_dir():
        return f"Tried to find {folder} but folder does not exist"
    try:
        atomic.recover(folder.resolve())  # the script may pass a symbolic link
    except (OSError, ValueError) as error:
        return str(error)
    if not (folder / manifest.MANIFEST).exists():  # checkpoints of Accelerate have no manifest
        return None
    return manifest.damage(folder, reads=reads)
