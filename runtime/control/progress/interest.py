"""Which ranks are shown if not all can be."""

from collections.abc import Sequence

from runtime.control.progress.snapshot import RankProgress


def by_interest(ranks: Sequence[RankProgress]) -> list[RankProgress]:
    """Return the ranks: first those that are not heard or behind, then the slowest ones.

    One step behind is not behind: the ranks do not beat at the same moment.
    """
    lead = max((one.place.steps for one in ranks if one.place is not None), default=0)

    def key(one: RankProgress) -> tuple[int, float]:
        behind = lead + 1 if one.place is None else lead - one.place.steps
        return -max(1, behind), -(own_seconds(one) or 0.0)

    return sorted(ranks, key=key)


def own_seconds(rank: RankProgress) -> float | None:
    """Return the time of a step that tells ranks apart, if it is known.

    All ranks wait for the slowest one, so that they need the same time for a whole step.
    """
    return rank.step_seconds if rank.own_seconds is None else rank.own_seconds
