"""Checks that a data loader can go on from a checkpoint within an epoch, and says what changed."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import SequentialSampler

from runtime.errors import CheckpointError
from runtime.loop.reading import Reading
from runtime.loop.say import say

_IN_ORDER = (SequentialSampler, type(None))  # a stream has no sampler


def obstacle(before: Reading, now: Reading, samples: int, loader: Any) -> str | None:
    """Return what must hold for a position to be exact, and does not; None if it can be exact.

    Args:
        before: what was read when the checkpoint was taken.
        now: what is read now.
        samples: the number of samples before the position.
        loader: the data loader.
    """
    if before.length != now.length and None not in (before.length, now.length):
        # Behind the position, an order that is not random may have other samples.
        if type(loader.get_sampler()) in _IN_ORDER and samples <= (now.length or 0):
            return None
        return (
            f"must read a dataset of {before.length} samples, got {now.length}: in another order "
            "some would be read twice, and others not at all"
        )
    unit = now.global_batch or 1
    if before.global_batch in (None, unit) or loader.can_begin_anywhere or not samples % unit:
        return None
    return (
        f"must have a global batch of {before.global_batch} samples, got {unit}: it can only begin "
        f"behind whole batches, and {samples} samples are none"
    )


def changes(before: Reading, now: Reading) -> Iterator[str]:
    """Yield in words what is another training, although every sample is read once."""
    for name, old, new in (
        ("samples of the dataset", before.length, now.length),
        ("samples of the global batch", before.global_batch, now.global_batch),
        ("drop_last", before.drop_last, now.drop_last),
    ):
        if None not in (old, new) and old != new:
            yield f"{name} {old} before and {new} now"


def check(index: int, before: Reading, loader: Any) -> bool:
    """Check that a data loader can go on within an epoch; say what has changed.

    Args:
        index: the index of the data loader among the prepared ones.
        before: what it read when the checkpoint was taken.
        loader: the data loader, which has loaded its position.

    Returns:
        Whether its batches have the size that they had.

    Raises:
        CheckpointError: the position cannot be exact; the same on all processes.
    """
    now = Reading.by(loader)
    problem = obstacle(before, now, loader.state_dict()["position"], loader)
    if problem is not None:
        sentence = (
            f"data loader {index} {problem}. To begin anew, set ACCELERATEDJOB_CHECKPOINT_DIR to "
            "another directory"
        )
        raise CheckpointError(sentence)
    found = "; ".join(changes(before, now))
    if found:
        say(f"data loader {index} goes on with other batches: {found}")
    return before.global_batch in (None, now.global_batch)
