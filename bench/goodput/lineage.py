"""Which steps of a ledger count in the end, and which were lost or done again; pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.goodput.ledger import Entry, Kind


@dataclass(frozen=True, slots=True)
class Lineage:
    """The steps of a training that was set back several times.

    Attributes:
        kept: the steps that the final weights contain, of all ranks, in the order of the ledger.
        undone: the steps that a later life has set back, in the same order.
    """

    kept: tuple[Entry, ...]
    undone: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Lineage":
        """Return the lineage of the entries of a ledger.

        A step of a rank is undone when the same rank later does a step with the same or a smaller
        number: it was set back to before that step.

        Args:
            entries: the entries, in the order in which they were written; marks are left out.
        """
        kept: dict[int, list[Entry]] = {}
        undone: list[Entry] = []
        for entry in entries:
            if entry.kind is not Kind.STEP:
                continue
            own = kept.setdefault(entry.rank, [])
            while own and own[-1].step >= entry.step:
                undone.append(own.pop())
            own.append(entry)
        every = [entry for own in kept.values() for entry in own]
        return cls(_in_order(every), _in_order(undone))

    @property
    def samples(self) -> Counter[int]:
        """How often each sample is in the final weights."""
        return Counter(sample for entry in self.kept for sample in entry.ids)


@dataclass(frozen=True, slots=True)
class Misses:
    """The samples that the final weights do not contain as often as they should.

    Attributes:
        lost: how often samples are missing, in sum.
        repeated: how often samples are there too often, in sum.
    """

    lost: int
    repeated: int

    @classmethod
    def of(cls, found: Counter[int], *, samples: int, epochs: int) -> "Misses":
        """Compare what was found with each of `samples` samples once in each of `epochs` epochs."""
        asked = Counter(dict.fromkeys(range(samples), epochs))
        return cls((asked - found).total(), (found - asked).total())


def _in_order(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.ended))
