"""Recognizes the files of a checkpoint by their names, which are those of Accelerate.

A file that matches no pattern here, and that no manifest lists, is never removed or overwritten.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from runtime.checkpoint import filenames

_N = r"(_[0-9]+)?"
# Directories of torch.distributed.checkpoint.
_SHARDED = rf"({filenames.FSDP_MODEL_NAME}|{filenames.OPTIMIZER_NAME})_[0-9]+"
_STATE = re.compile(
    "|".join(
        [
            rf"{filenames.SAFE_MODEL_NAME}{_N}\.safetensors",
            rf"{filenames.MODEL_NAME}{_N}\.bin",
            rf"{filenames.FSDP_MODEL_NAME}{_N}\.bin",
            rf"{filenames.OPTIMIZER_NAME}{_N}\.bin",
            rf"{filenames.SCHEDULER_NAME}{_N}\.bin",
            rf"{filenames.SAMPLER_NAME}{_N}\.bin",
            rf"{filenames.LOADER_STATE_NAME}{_N}\.bin",
            re.escape(filenames.SCALER_NAME),
            rf"{filenames.RNG_STATE_NAME}_[0-9]+\.pkl",
            rf"{filenames.CUSTOM_STATE_NAME}_[0-9]+\.pkl",
            rf"{_SHARDED}/(\.metadata|__[0-9]+_[0-9]+\.distcp)",
        ]
    )
)
_PARTS = re.compile(_SHARDED)
_RANDOM = re.compile(rf"{filenames.RNG_STATE_NAME}_[0-9]+\.pkl")
_CUSTOM = re.compile(rf"{filenames.CUSTOM_STATE_NAME}_[0-9]+\.pkl")
_WHOLE = {filenames.SAFE_WEIGHTS_NAME, filenames.WEIGHTS_NAME}
_WEIGHTS = re.compile(
    rf"{filenames.SAFE_MODEL_NAME}(-[0-9]{{5}}-of-[0-9]{{5}})?\.safetensors"
    rf"|{filenames.MODEL_NAME}(-[0-9]{{5}}-of-[0-9]{{5}})?\.bin"
    rf"|{re.escape(filenames.SAFE_WEIGHTS_INDEX_NAME)}|{re.escape(filenames.WEIGHTS_INDEX_NAME)}"
)


def names(folder: Path) -> set[str]:
    """Return the relative names of files that may belong to a checkpoint.

    These are the files in the directory itself and in its directories of sharded states. Symbolic
    links are excluded, because a save creates none.
    """
    inner = [one for one in folder.iterdir() if _PARTS.fullmatch(one.name) and _is_own(one)]
    found = [path for parent in (folder, *inner) for path in parent.iterdir()]
    return {str(one.relative_to(folder)) for one in found if one.is_file() and _is_own(one)}


def _is_own(path: Path) -> bool:
    return not path.is_symlink()


def states(found: Iterable[str]) -> set[str]:
    """Return those names that `save_state` of this library or of Accelerate gives to files."""
    return {name for name in found if _STATE.fullmatch(name)}


def custom(found: Iterable[str]) -> set[str]:
    """Return those names that are states of registered objects."""
    return {name for name in found if _CUSTOM.fullmatch(name)}


def weights(found: Iterable[str]) -> set[str]:
    """Return those names that `save_model` gives to files: one file, or several and an index."""
    return {name for name in found if _WEIGHTS.fullmatch(name)}


def has_weights(found: Iterable[str]) -> bool:
    """Whether these names include the weights of the first model in one file."""
    return not _WHOLE.isdisjoint(found)


def is_state(found: Iterable[str]) -> bool:
    """Whether these are the names of a checkpoint's files: each checkpoint has random states."""
    return any(_RANDOM.fullmatch(name) for name in found)


def replaced(before: Iterable[str], listed: Iterable[str], written: Iterable[str]) -> set[str]:
    """Return the names of files in a directory that a new checkpoint there makes obsolete.

    Args:
        before: the names of the files in the directory, from `names`.
        listed: the names in the directory's manifest.
        written: the names of the new checkpoint's files.

    >>> sorted(replaced({"optimizer.bin", "random_states_0.pkl", "notes.txt"}, (), {"scaler.pt"}))
    ['optimizer.bin', 'random_states_0.pkl']
    """
    before, old, written = set(before), set(listed), set(written)
    if old or is_state(before):
        old |= states(before)
    if has_weights(written):
        old |= weights(before)
    return old - written
