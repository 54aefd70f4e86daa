"""Compares the digests of tensors that all ranks must have alike: which differs, and on whom.

Ranks first compare one number, `combined`; only if these differ do they send all digests.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

_SHOWN = 8  # ranks in a sentence
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Ranks that must have equal tensors have different ones.

    Attributes:
        tensor: the name of the first tensor that differs, in the order of the lowest rank.
        ranks: the ranks that differ from the majority, ascending; without a majority all ranks.
        has_majority: whether more than half of the ranks agree on this tensor.
        missing: the ranks that do not have the tensor.
        number: the number of the tensor, from 1.
        tensors: the number of all tensors.
        step: the number of completed optimizer steps; None if it is unknown.
    """

    tensor: str
    ranks: tuple[int, ...]
    has_majority: bool
    missing: tuple[int, ...]
    number: int
    tensors: int
    step: int | None = None

    def __str__(self) -> str:
        """Return one sentence for the log."""
        more = len(self.ranks) - _SHOWN
        shown = ", ".join(str(rank) for rank in self.ranks[:_SHOWN])
        who = ("rank " if len(self.ranks) == 1 else "ranks ") + shown
        who += f" and {more} more" if more > 0 else ""
        at = "" if self.step is None else f" at step {self.step}"
        what = f"{self.tensor}, the first that differs: tensor {self.number} of {self.tensors}"
        if not self.has_majority:
            what = f"{who} differ in {what}; no majority says which one is right"
        elif len(self.ranks) == 1:
            what = f"{who} differs from the other ranks in {what}"
        else:
            what = f"{who} differ from the other ranks in {what}"
        return f"the training diverges{at}: {what}"


def combined(digests: Mapping[str, int]) -> int:
    """Return one 64-bit number for all tensors of a rank: their names, order and digests.

    Args:
        digests: the name of a tensor -> its digest.
    """
    found = hashlib.blake2b(digest_size=8)
    for name, value in digests.items():
        found.update(name.encode() + b"\0" + (value & _MASK).to_bytes(8))
    return int.from_bytes(found.digest())


def compare(digests: Mapping[int, Mapping[str, int]]) -> Divergence | None:
    """Return in what the ranks differ; None if they are alike.

    Args:
        digests: rank -> the name of a tensor -> its digest.
    """
    ranks = sorted(digests)
    names = list(dict.fromkeys(name for rank in ranks for name in digests[rank]))
    differing = [name for name in names if len({digests[one].get(name) for one in ranks}) > 1]
    if not differing:
        return None
    first = differing[0]
    values = [digests[rank].get(first) for rank in ranks]
    usual = max(values, key=values.count)
    has_majority = 2 * values.count(usual) > len(ranks)
    odd = [rank for rank, one in zip(ranks, values, strict=True) if one != usual]
    return Divergence(
        tensor=first,
        ranks=tuple(odd if has_majority else ranks),
        has_majority=has_majority,
        missing=tuple(rank for rank, one in zip(ranks, values, strict=True) if one is None),
        number=names.index(first) + 1,
        tensors=len(names),
    )
