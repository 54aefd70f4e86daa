"""Which names in a directory are a checkpoint's files: Accelerate's layout, as patterns.

A name that is not matched here, and that no manifest lists, belongs to somebody else.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from runtime.checkpoint import names as constants

_N = r"(_[0-9]+)?"
_SHARDED = rf"({constants.FSDP_MODEL_NAME}|{constants.OPTIMIZER_NAME})_[0-9]+"  # directories
_STATE = re.compile(
    "|".join(
        [
            rf"{constants.SAFE_MODEL_NAME}{_N}\.safetensors",
            rf"{constants.MODEL_NAME}{_N}\.bin",
            rf"{constants.FSDP_MODEL_NAME}{_N}\.bin",
            rf"{constants.OPTIMIZER_NAME}{_N}\.bin",
            rf"{constants.SCHEDULER_NAME}{_N}\.bin",
            rf"{constants.SAMPLER_NAME}{_N}\.bin",
            rf"{constants.LOADER_STATE_NAME}{_N}\.bin",
            re.escape(constants.SCALER_NAME),
            rf"{constants.RNG_STATE_NAME}_[0-9]+\.pkl",
            rf"{constants.CUSTOM_STATE_NAME}_[0-9]+\.pkl",
            rf"{_SHARDED}/(\.metadata|__[0-9]+_[0-9]+\.distcp)",
        ]
    )
)
_PARTS = re.compile(_SHARDED)
_RANDOM = re.compile(rf"{constants.RNG_STATE_NAME}_[0-9]+\.pkl")
_CUSTOM = re.compile(rf"{constants.CUSTOM_STATE_NAME}_[0-9]+\.pkl")
_WHOLE = {constants.SAFE_WEIGHTS_NAME, constants.WEIGHTS_NAME}
_WEIGHTS = re.compile(
    rf"{constants.SAFE_MODEL_NAME}(-[0-9]{{5}}-of-[0-9]{{5}})?\.safetensors"
    rf"|{constants.MODEL_NAME}(-[0-9]{{5}}-of-[0-9]{{5}})?\.bin"
    rf"|{re.escape(constants.SAFE_WEIGHTS_INDEX_NAME)}|{re.escape(constants.WEIGHTS_INDEX_NAME)}"
)


def names(folder: Path) -> set[str]:
    """The names of the files that may be a checkpoint's: of the directory, and of sharded parts.

    Links are left out: whoever made them, a save has not.
    """
    inner = [one for one in folder.iterdir() if _PARTS.fullmatch(one.name) and _is_own(one)]
    found = [path for parent in (folder, *inner) for path in parent.iterdir()]
    return {str(one.relative_to(folder)) for one in found if one.is_file() and _is_own(one)}


def _is_own(path: Path) -> bool:
    return not path.is_symlink()


def states(found: Iterable[str]) -> set[str]:
    """The names that `save_state` gives to files, Accelerate's as well."""
    return {name for name in found if _STATE.fullmatch(name)}


def custom(found: Iterable[str]) -> set[str]:
    """The names of the states of objects that a script has registered."""
    return {name for name in found if _CUSTOM.fullmatch(name)}


def weights(found: Iterable[str]) -> set[str]:
    """The names that `save_model` gives to files: whole, or shards and their index."""
    return {name for name in found if _WEIGHTS.fullmatch(name)}


def has_weights(found: Iterable[str]) -> bool:
    """Whether the first model is among these names as one whole file."""
    return not _WHOLE.isdisjoint(found)


def is_state(found: Iterable[str]) -> bool:
    """Whether these names are of a checkpoint: Accelerate saves random states in each."""
    return any(_RANDOM.fullmatch(name) for name in found)


def replaced(before: Iterable[str], listed: Iterable[str], written: Iterable[str]) -> set[str]:
    """The names that a new checkpoint makes untrue, in the directory that it is written into.

    Args:
        before: names of the files that are there, from `names`.
        listed: names that the manifest there lists.
        written: names of the new checkpoint's files.

    >>> sorted(replaced({"optimizer.bin", "random_states_0.pkl", "notes.txt"}, (), {"scaler.pt"}))
    ['optimizer.bin', 'random_states_0.pkl']
    """
    before, old, written = set(before), set(listed), set(written)
    if old or is_state(before):
        old |= states(before)
    if has_weights(written):
        old |= weights(before)
    return old - written
