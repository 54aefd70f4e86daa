"""Decides when a world hangs, without a clock: what time it is comes with the beats.

A rank moves when its place or phase changes, or when it passes a boundary. A world stands when no
rank has moved for as long as its phase allows. Only time in which some rank was heard counts: if
all are stopped by a debugger, or the judge itself is, nobody is judged for it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from runtime.control.beat import Beat, Phase
from runtime.control.verdicts import culprit, track
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.track import Learned, Limits, Track
from runtime.control.verdicts.verdict import Verdict


class Order(Enum):
    """What the judge wants from its caller."""

    COLLECT = "ask all ranks for their stacks now"
    LOOK = "have the launchers look at the ranks that do not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the judge knows; each method returns the next state.

    Attributes:
        life: the life that is judged; what belongs to another one is dropped.
        limits: how long a rank may stand.
        tracks: rank -> what is known of it.
        ended: the ranks whose script has ended.
        heard_at: the time at which a rank was last heard; None before the first beat.
        clock: the time that counts, in seconds: see `Limits.silence`.
        asked: the clock when the stacks were asked for; None if they are not.
        has_looked: whether the launchers were asked since.
        reports: rank -> its report, since they were asked for.
        verdict: the verdict on the world as it stands; None if there is none, or it moves again.
        learned: what the job has shown of how long a rank may stand.
    """

    life: Life = field(default_factory=Life)
    limits: Limits = field(default_factory=Limits)
    tracks: Mapping[int, Track] = field(default_factory=dict)
    ended: frozenset[int] = frozenset()
    heard_at: float | None = None
    clock: float = 0.0
    asked: float | None = None
    has_looked: bool = False
    reports: Mapping[int, Report] = field(default_factory=dict)
    verdict: Verdict | None = None
    learned: Learned = field(default_factory=Learned)

    def begun(self, life: Life) -> "Watch":
        """Return the state at the begin of the next life: only how long steps take is known."""
        return Watch(life=life, limits=self.limits, learned=Learned(stepped=self._stepped))

    def heard(self, life: Life, beats: Mapping[int, Beat], now: float) -> "Watch":
        """Take in beats; those of another life are dropped.

        Args:
            life: the life that the beats belong to.
            beats: rank -> its beat.
            now: the time of a monotonic clock of the judge, in seconds.
        """
        if life != self.life or not beats:
            return self
        since = 0.0 if self.heard_at is None else max(now - self.heard_at, 0.0)
        clock = self.clock + min(since, self.limits.silence)
        tracks = {**self.tracks}
        for rank, beat in beats.items():
            known = self.tracks.get(rank)
            tracks[rank] = (
                track.begun(beat, clock) if known is None else track.followed(known, beat, clock)
            )
        ended = self.ended.union(rank for rank, one in beats.items() if one.phase is Phase.DONE)
        return _settled(replace(self, tracks=tracks, heard_at=now, clock=clock, ended=ended))

    def lost(self, life: Life, rank: int) -> "Watch":
        """Take in that the connection of a rank has ended."""
        if life != self.life or rank not in self.tracks:
            return self
        left = replace(self.tracks[rank], is_connected=False)
        return replace(self, tracks={**self.tracks, rank: left})

    def left(self, life: Life, rank: int) -> "Watch":
        """Take in that the script of a rank has ended."""
        return self if life != self.life else _settled(replace(self, ended=self.ended | {rank}))

    def completed(self, life: Life, seconds: float) -> "Watch":
        """Take in that a checkpoint is complete on storage.

        Args:
            life: the life that has written it.
            seconds: the time from its beginning until it was complete.
        """
        if life != self.life:
            return self
        saved = max(self.learned.saved or 0.0, seconds)
        return replace(self, learned=replace(self.learned, saved=saved))

    def told(self, life: Life, rank: int, report: Report) -> "Watch":
        """Take in a report that was asked for."""
        if life != self.life or self.asked is None:
            return self
        return replace(self, reports={**self.reports, rank: report})

    def decided(self, homes: Mapping[int, Home]) -> "tuple[Watch, Order | Verdict | None]":
        """Return the next state, and what is to be done: an order, a new verdict, or nothing.

        Args:
            homes: rank -> where it runs.
        """
        if not self.stands or self.verdict is not None:
            return self, None
        if self.asked is None:
            asked = replace(self, asked=self.clock, has_looked=False, reports={})
            return asked, Order.COLLECT
        waited = self.clock - self.asked
        if self.silent and not self.has_looked and (self._is_mute or waited >= self.limits.answer):
            return replace(self, has_looked=True), Order.LOOK
        if self._awaited and waited < self.limits.patience:
            return self, None
        reports = {rank: self._report(rank) for rank in self.running}
        working = culprit.are_working(reports)
        if any(not self.tracks[rank].is_excused for rank in working):
            return self._excused(working), None
        found = culprit.find(reports, self.ended)
        verdict = Verdict.of(self.life, found, reports, homes, self._idle(found))
        return replace(self, verdict=verdict), verdict

    @property
    def running(self) -> dict[int, Track]:
        """The ranks whose script has not ended."""
        return {rank: track for rank, track in self.tracks.items() if rank not in self.ended}

    @property
    def silent(self) -> frozenset[int]:
        """The ranks that run, and have not reported since they were asked."""
        return frozenset(self.running.keys() - self.reports.keys())

    @property
    def stands(self) -> bool:
        """Whether no rank has moved for as long as its phase allows."""
        running = self.running.values()
        return len(running) > 0 and self._are_standing(running)

    @property
    def goes_on(self) -> bool:
        """Whether some rank has moved. A world that hung and has ended does not go on."""
        return not self._are_standing((self.running or self.tracks).values())

    def _are_standing(self, tracks: Collection[Track]) -> bool:
        furthest = max(one.beat.place for one in tracks)
        return all(one.stands(self.clock, self.limits, furthest, self.learned) for one in tracks)

    @property
    def _stepped(self) -> float | None:
        """The longest step of this life, or else of the one before; None if none is known."""
        steady = (one for one in self.tracks.values() if not one.is_early(self.limits))
        return max((one.longest_step for one in steady), default=self.learned.stepped)

    @property
    def _is_mute(self) -> bool:
        """Whether the ranks that have not reported are connected, but were not heard before."""
        silent, longest = [self.tracks[rank] for rank in self.silent], 2 * self.limits.answer
        return all(one.is_connected and self.clock - one.heard >= longest for one in silent)

    @property
    def _awaited(self) -> set[int]:
        """The ranks that are expected to report."""
        return {rank for rank in self.silent if self.tracks[rank].is_connected}

    def _report(self, rank: int) -> Report:
        """Return the report of a rank; without one, that it is silent although it is connected."""
        known = self.tracks[rank]
        silent = self.clock - known.heard
        is_silent = known.is_connected and silent > self.limits.silence
        excuse = f"it has sent nothing for {silent:.0f} s" if is_silent else ""
        return self.reports.get(rank, Report(excuse=excuse))

    def _excused(self, ranks: tuple[int, ...]) -> "Watch":
        excused = {rank: replace(self.tracks[rank], is_excused=True) for rank in ranks}
        return replace(self, tracks={**self.tracks, **excused}, asked=None, reports={})

    def _idle(self, found: culprit.Finding) -> tuple[Phase, float]:
        """Return the phase of the first suspect, and the seconds since it moved."""
        known = self.tracks.get(found.suspects[0])
        return (known.beat.phase, known.idle(self.clock)) if known else (Phase.DONE, 0.0)


def _settled(watch: Watch) -> Watch:
    """Return the state, without question and verdict if the world moves."""
    if watch.asked is None or not watch.goes_on:
        return watch
    return replace(watch, asked=None, reports={}, verdict=None)
