"""Which part of a sequence each process has.

A sequence is cut into two pieces for each process, and a process has one from the beginning and one
from the end: of four processes, the first has the pieces 0 and 7, the second 1 and 6. In causal
attention, where a position attends to those before it, all processes then have equal work. torch's
`context_parallel` divides sequences in the same way.
"""

from collections.abc import Sequence

import torch

PIECES = 2  # of each process


def pieces_of(rank: int, size: int) -> tuple[int, int]:
    """Return the numbers of the pieces that a process has, in their order in the sequence.

    >>> [pieces_of(rank, 4) for rank in range(4)]
    [(0, 7), (1, 6), (2, 5), (3, 4)]

    Args:
        rank: the index of the process among those that share the sequences.
        size: the number of these processes.
    """
    return rank, PIECES * size - 1 - rank


def part_of(whole: torch.Tensor, dimension: int, rank: int, size: int) -> torch.Tensor:
    """Return a copy of the part of a tensor that a process has.

    >>> part_of(torch.arange(8), 0, 1, 2).tolist()
    [2, 3, 4, 5]

    Args:
        whole: a tensor whose size in the dimension is a multiple of `PIECES * size`.
        dimension: the dimension of the positions.
        rank: the index of the process among those that share the sequences.
        size: the number of these processes.
    """
    pieces = whole.chunk(PIECES * size, dimension)
    return torch.cat([pieces[number] for number in pieces_of(rank, size)], dimension)


def in_order(parts: Sequence[torch.Tensor], dimension: int) -> torch.Tensor:
    """Return the whole tensor, from the parts of all processes.

    >>> in_order([torch.tensor([0, 1, 6, 7]), torch.tensor([2, 3, 4, 5])], 0).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]

    Args:
        parts: the parts, in order of rank.
        dimension: the dimension of the positions.
    """
    halves = [part.chunk(PIECES, dimension) for part in parts]
    firsts, lasts = [half[0] for half in halves], [half[1] for half in halves]
    return torch.cat([*firsts, *reversed(lasts)], dimension)
