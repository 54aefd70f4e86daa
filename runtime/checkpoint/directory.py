"""A project's checkpoints: what the next one is called, which is loaded, which go."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runtime.checkpoint import manifest, storage
from runtime.collectives.objects import broadcast_object_list, each_object
from runtime.config.plugins import ProjectConfiguration
from runtime.world.log import get_logger

logger = get_logger(__name__)
CHECKPOINTS = "checkpoints"  # of a project, in its directory


def from_main(make: Callable[[], Any], *, makes: bool) -> Any:
    """What the main process has made, on all of them; what has failed there fails on all.

    Args:
        make: makes it.
        makes: whether this process does so, too.
    """
    made = None
    if makes:
        try:
            made = make()
        except (OSError, ValueError) as error:
            made = error
    (found,) = broadcast_object_list([made])
    for one in (found, made):
        if isinstance(one, Exception):
            raise one
    return found


def checkpoints(config: ProjectConfiguration) -> Path:
    """Where they are."""
    return Path(config.project_dir, CHECKPOINTS)


def target(config: ProjectConfiguration, output_dir: str | os.PathLike[str] | None) -> Path:
    """What a checkpoint is to be called: what the main process says, on all of them.

    With automatic naming it gets the next number that is free there, in each one's project.

    Raises:
        ValueError: no directory, and no automatic naming.
    """
    if not config.automatic_checkpoint_naming:
        if output_dir is None:
            sentence = "save_state needs output_dir, or automatic_checkpoint_naming"
            raise ValueError(sentence)
        # Absolute: a checkpoint that is written behind may be so in another working directory.
        return Path(broadcast_object_list([Path(output_dir).expanduser().absolute()])[0])
    parent = checkpoints(config).absolute()
    known = manifest.numbered(parent)
    number = max(config.iteration, manifest.number(known[-1]) + 1 if known else 0)
    while os.path.lexists(parent / manifest.name_of(number)):  # somebody else's
        number += 1
    (config.iteration,) = broadcast_object_list([number])
    return parent / manifest.name_of(config.iteration)  # each machine's own, if each saves


def retain(config: ProjectConfiguration) -> None:
    """Remove those that are too many."""
    if not config.automatic_checkpoint_naming or config.total_limit is None:
        return
    for folder in manifest.retain(checkpoints(config), config.total_limit):
        logger.info("removed %s, as total_limit is %d", folder, config.total_limit)


def source(
    config: ProjectConfiguration,
    input_dir: str | os.PathLike[str] | None,
    *,
    reads: bool | None,
    looks: bool,
) -> Path:
    """The checkpoint to load; all processes load the same.

    Args:
        config: of the project.
        input_dir: the one that was asked for; None: the newest that is whole.
        reads: whether every byte is compared with its checksum; None: where there is a choice.
        looks: whether this process looks after a directory.

    Raises:
        ValueError: there is none, or the one that was asked for is damaged.
    """
    if input_dir is None:
        return _newest(config, reads=reads is not False, looks=looks)
    folder = Path(broadcast_object_list([Path(input_dir).expanduser()])[0])
    problem = _problem(lambda: _damage_of_given(folder, reads=bool(reads)), looks=looks)
    if problem is not None:
        raise ValueError(problem)
    return folder


def _newest(config: ProjectConfiguration, *, reads: bool, looks: bool) -> Path:
    if not config.automatic_checkpoint_naming:
        sentence = "No input_dir provided and automatic checkpoint naming is disabled."
        raise ValueError(sentence)
    parent = checkpoints(config)
    known: list[str] = from_main(
        lambda: [one.name for one in manifest.numbered(parent)], makes=looks
    )
    for folder in (parent / name for name in reversed(known)):
        problem = _problem(partial(manifest.damage, folder, reads=reads), looks=looks)
        if problem is None:
            return folder
        logger.warning("passed over: %s", problem)
    sentence = f"{parent} has no checkpoint that is whole, of {len(known)}"
    raise ValueError(sentence)


def _problem(look: Callable[[], str | None], *, looks: bool) -> str | None:
    """What any of the processes that look has found."""
    found = each_object(look() if looks else None)
    return next((one for one in found if one is not None), None)


def _damage_of_given(folder: Path, *, reads: bool) -> str | None:
    if not folder.is_dir():
        return f"Tried to find {folder} but folder does not exist"
    try:
        storage.recover(folder.resolve())  # it may be given as a link
    except (OSError, ValueError) as error:
        return str(error)
    if not (folder / manifest.MANIFEST).exists():  # Accelerate's have none
        return None
    return manifest.damage(folder, reads=reads)
