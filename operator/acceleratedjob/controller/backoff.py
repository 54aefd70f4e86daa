"""Exponential backoff after errors, and after writes that the API server refuses."""

from dataclasses import replace
from datetime import timedelta

from acceleratedjob.api.reasons import without_names
from acceleratedjob.observe.observed import Refusal

HELD_SECONDS = 2.0  # between two tries to take a name whose holder is terminating


class Backoff:
    """The seconds to wait after consecutive errors of a key: doubling, up to a maximum."""

    def __init__(self, initial: float = 1.0, maximum: float = 60.0) -> None:
        self._initial = initial
        self._maximum = maximum
        self._errors: dict[str, int] = {}

    def next(self, key: str) -> float:
        """Count an error, and return the seconds to wait."""
        errors = self._errors[key] = self._errors.get(key, 0) + 1
        doubled: float = self._initial * 2 ** min(errors - 1, 32)
        return min(doubled, self._maximum)

    def reset(self, key: str) -> None:
        """Forget the errors of a key."""
        self._errors.pop(key, None)


def _sentence(refusal: Refusal) -> tuple[str, bool]:
    """Return what identifies a refusal, which is equal for all pods of the job."""
    return without_names(refusal.message), refusal.final


class Refusals:
    """The last refused write of each job, with the time of the next try.

    All seconds are those of a monotonic clock.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        # uid of the job -> refusal, time of the next try, time of the first equal refusal
        self._told: dict[str, tuple[Refusal, float, float]] = {}

    def add(self, uid: str, refusal: Refusal, seconds: float) -> bool:
        """Record a refusal; return whether it differs from the recorded one.

        A refusal during the wait comes from the same reconcile, or from a deletion: it does not
        extend the wait, and replaces no final refusal.
        """
        known = self.get(uid, seconds)
        if known is None or not known.retry_in:
            is_new = known is None or _sentence(known) != _sentence(refusal)
            wait = HELD_SECONDS if refusal.holder is not None else self._backoff.next(uid)
            since = seconds if is_new else self._told[uid][2]
            self._told[uid] = (refusal, seconds + wait, since)
            return is_new
        is_news = refusal.final and not known.final
        if is_news:
            self._told[uid] = (refusal, *self._told[uid][1:])
        return is_news

    def get(self, uid: str, seconds: float) -> Refusal | None:
        """Return the refusal of a job, with the time until the next try; None if there is none."""
        if uid not in self._told:
            return None
        refusal, retry_at, since = self._told[uid]
        retry_in = timedelta(seconds=max(0.0, retry_at - seconds))
        return replace(refusal, retry_in=retry_in, lasted=timedelta(seconds=seconds - since))

    def forget(self, uid: str) -> None:
        """Drop the refusal of a job."""
        self._told.pop(uid, None)
        self._backoff.reset(uid)
