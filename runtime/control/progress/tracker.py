"""Builds a `Snapshot` from the beats of all ranks and the facts that the coordinator knows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.progress.bounds import MAX_COUNT, bounded, plain
from runtime.control.progress.curve import Curve
from runtime.control.progress.ledger import Ledger
from runtime.control.progress.pace import Pace
from runtime.control.progress.snapshot import (
    MAX_PERCENT,
    CheckpointProgress,
    LifeFailure,
    RankProgress,
    Snapshot,
    Tier,
    Totals,
    Verdict,
    VerdictKind,
)

KEPT_CHECKPOINTS: Final = 10
KEPT_VERDICTS: Final = 20
KEPT_FAILURES: Final = 10


@dataclass(frozen=True, slots=True)
class _Heard:
    """A rank's last beat, when it came, and when the rank completed a step, if it has."""

    beat: Beat
    at: float
    stepped: float | None = None

    def then(self, beat: Beat, now: float) -> "_Heard":
        """Return what is known after the next beat."""
        if beat.place.steps == self.beat.place.steps:
            return _Heard(beat, now, self.stepped)
        return _Heard(beat, now, now - min(beat.phase_seconds, max(0.0, now - self.at)))

    def progress(self, rank: int, now: float) -> RankProgress:
        return RankProgress(
            rank=rank,
            place=self.beat.place,
            phase=self.beat.phase,
            seconds_since_step=None if self.stepped is None else max(0.0, now - self.stepped),
            seconds_since_beat=max(0.0, now - self.at),
            step_seconds=self.beat.step_seconds,
            own_seconds=self.beat.own_seconds,
        )


class Tracker:
    """Follows one attempt; rank 0 speaks for the job, whose ranks differ by a step at most.

    It reads no clock and has no lock: `now` is always a monotonic time in seconds of the process
    that hosts it, and only one thread may use it.
    Beats of another life, of a rank that is not in the world, and beats whose place has fallen are
    ignored.
    """

    def __init__(
        self, *, attempt: int, ranks: int, now: float, name: str = "", uid: str = ""
    ) -> None:
        """Begin to follow an attempt, in life 0.

        Args:
            attempt: the attempt, from 0.
            ranks: the world size.
            now: when the processes are started.
            name: the name of the job.
            uid: the UID of the job.
        """
        self._attempt, self._world_size = attempt, ranks
        self._name, self._uid = name, uid
        self._life = 0
        self._heard: dict[int, _Heard] = {}
        self._totals = Totals()
        self._checkpoints: tuple[CheckpointProgress, ...] = ()
        self._verdicts: tuple[Verdict, ...] = ()
        self._failures: tuple[LifeFailure, ...] = ()
        self._began: int | None = None  # the step at which rank 0 was first heard in this life
        self._pace, self._curve, self._ledger = Pace(), Curve(), Ledger(now)

    def begin(self, life: int, now: float) -> None:
        """Begin a life: forget the beats and the verdicts of the one before."""
        self._life = life
        self._heard, self._verdicts, self._began = {}, (), None
        self._totals = replace(self._totals, first_step=None)
        self._pace.begin()
        self._ledger.begin(now)

    def fail(self, failure: LifeFailure) -> None:
        """Take what has ended a life."""
        exception, message = plain(failure.exception), plain(failure.message)
        told = replace(failure, exception=exception, message=message)
        self._failures = (told, *self._failures)[:KEPT_FAILURES]

    @property
    def has_stepped(self) -> bool:
        """Whether rank 0 has completed a step in this life."""
        main, first = self._heard.get(0), self._totals.first_step
        if main is None or self._began is None:
            return False
        return main.beat.place.steps > (self._began if first is None else first)

    def hear(self, rank: int, beat: Beat, now: float, *, life: int) -> None:
        """Take a beat of a rank of a life."""
        before = self._heard.get(rank)
        if life != self._life or not 0 <= rank < self._world_size:
            return
        if before is not None and beat.place < before.beat.place:
            return
        beat = bounded(beat, with_metrics=rank == 0)
        self._heard[rank] = _Heard(beat, now) if before is None else before.then(beat, now)
        if rank == 0:
            self._follow(beat, now)

    def plan(self, totals: Totals) -> None:
        """Take what rank 0 says of the length of the training."""
        self._totals = totals

    def saved(self, checkpoint: CheckpointProgress) -> None:
        """Take a complete checkpoint; one in memory may be newer than one written behind it."""
        newer, rest = self._checkpoints[:1], self._checkpoints[1:]
        if newer and not (newer[0].tier is Tier.MEMORY and newer[0].step > checkpoint.step):
            newer, rest = (), self._checkpoints
        self._checkpoints = (*newer, checkpoint, *rest)[:KEPT_CHECKPOINTS]

    def judge(self, verdicts: Iterable[Verdict], now: float) -> None:
        """Replace the verdicts by those that hold now."""
        given = tuple(verdicts)[:KEPT_VERDICTS]
        self._verdicts = tuple(_plain(verdict) for verdict in given)
        self._ledger.hang(now, hangs=any(one.kind is VerdictKind.HANG for one in given))

    def snapshot(self, now: float, at: datetime) -> Snapshot:
        """Return what is known at a monotonic time, and the same time with its time zone."""
        main = self._heard.get(0)
        known = Snapshot(
            name=plain(self._name),
            uid=plain(self._uid),
            attempt=self._attempt,
            life=self._life,
            epochs=self._totals.epochs,
            first_step=self._totals.first_step,
            total_steps=_total(self._totals),
            losses=self._curve.points,
            checkpoints=self._checkpoints,
            ranks=tuple(self._progress(rank, now) for rank in range(self._world_size)),
            verdicts=self._verdicts,
            failures=self._failures,
            goodput=self._ledger.goodput(now, self._pace.step_seconds),
        )
        if main is None or not _has_begun(main.beat):
            return known
        return self._with(known, main, now, at)

    @property
    def is_complete(self) -> bool:
        """Whether rank 0 has ended its last epoch."""
        main, epochs = self._heard.get(0), self._totals.epochs
        return main is not None and epochs is not None and main.beat.place.epochs > epochs

    def _with(self, known: Snapshot, main: _Heard, now: float, at: datetime) -> Snapshot:
        """Add what rank 0 says."""
        beat, stepped = main.beat, main.stepped
        return replace(
            known,
            epoch=_epoch(beat.place, self._totals),
            step=beat.place.steps,
            samples=beat.samples,
            samples_per_second=self._pace.samples_per_second,
            step_seconds=self._pace.step_seconds,
            percent=_percent(beat.place, known.total_steps),
            eta_seconds=self._pace.eta(self._totals),
            loss=beat.loss,
            metrics=beat.metrics,
            last_step_time=None if stepped is None else at - timedelta(seconds=now - stepped),
        )

    def _follow(self, beat: Beat, now: float) -> None:
        if self._began is None and _has_begun(beat):
            self._began = beat.place.steps
        self._pace.hear(beat, now)
        self._ledger.hear(beat, now, self._pace.step_seconds, self._totals.first_step)
        if beat.loss is not None:
            self._curve.add(beat.place.steps, beat.loss)

    def _progress(self, rank: int, now: float) -> RankProgress:
        heard = self._heard.get(rank)
        return RankProgress(rank=rank) if heard is None else heard.progress(rank, now)


def _has_begun(beat: Beat) -> bool:
    """Whether a rank has begun; before, it does not know from which checkpoint it goes on."""
    return beat.phase is not Phase.INIT or beat.place != Place(0, 0)


def _total(totals: Totals) -> int | None:
    return None if totals.steps is None else min(totals.steps, MAX_COUNT)


def _epoch(place: Place, totals: Totals) -> int:
    """Return the last epoch when it has ended, after which another one counts as begun."""
    return place.epochs if totals.epochs is None else min(place.epochs, totals.epochs)


def _percent(place: Place, total: int | None) -> int | None:
    return min(MAX_PERCENT, MAX_PERCENT * place.steps // total) if total else None


def _plain(verdict: Verdict) -> Verdict:
    node = None if verdict.node is None else plain(verdict.node)
    return replace(verdict, text=plain(verdict.text), node=node)
