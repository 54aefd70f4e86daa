"""What is known of one rank: how long it stands, and how long it may stand where it is.

All times are counted time: seconds in which some rank of the job was heard.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.verdicts.durations import Durations

_STEPPING = frozenset({Phase.DATA, Phase.STEP})
_NEVER_SHORT = frozenset({Phase.INIT, Phase.CHECKPOINT, Phase.AGREEMENT})
_OPENING = "opening"  # the stage from the begin of a life or pass to the end of its first step
_POSITIVE = (
    "floor",
    "ceiling",
    "factor",
    "first_steps",
    "save_floor",
    "save_factor",
    "silence",
    "answer",
    "patience",
)
_NOWHERE = Place(0)
_BUSY = 0.5  # a main thread that has run Python code in this part of the time works


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a rank may stand; all values are in seconds unless they say otherwise.

    Attributes:
        floor: the least time after which a world may be said to hang.
        ceiling: the time for the first entry of each phase, for the first steps of a job, and for
            phases whose length is nobody's fault: loading, an agreement, a compilation, and a
            checkpoint before the first one is complete.
        factor: how many times longer than the 99th percentile of its phase a rank may stand.
        first_steps: the number of steps after each start that have the ceiling, or as long as the
            life before has shown.
        save_floor: the least time that a rank may save for, once a checkpoint is complete.
        save_factor: how many times longer than the longest checkpoint a rank may save for; never
            longer than the ceiling.
        silence: the longest time between two beats of a job that counts; the rest of a longer one
            was a pause of all ranks, or of the judge.
        answer: the time to wait for the answers of ranks before their launchers look at them.
        patience: the time to wait for the reports of ranks that are connected.

    Raises:
        ValueError: a value is not positive and finite, or the ceiling is below the floor.
    """

    floor: float = 10.0
    ceiling: float = 600.0
    factor: float = 5.0
    first_steps: int = 5
    save_floor: float = 60.0
    save_factor: float = 10.0
    silence: float = 3.0
    answer: float = 1.0
    patience: float = 5.0

    def __post_init__(self) -> None:
        """Check the limits."""
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.ceiling < self.floor:
            sentence = f"ceiling must be at least floor, got {self.ceiling} and {self.floor}"
            raise ValueError(sentence)

    def of_save(self, longest: float) -> float:
        """Return the time for a save when the longest one so far has taken so long."""
        return min(self.ceiling, max(self.save_floor, self.save_factor * longest))

    def of_first_steps(self, longest: float) -> float:
        """Return the time for the first steps when the longest one before has taken so long."""
        return min(self.ceiling, max(self.floor, self.factor * longest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the job itself has shown of how long a rank may stand; all values are in seconds.

    Attributes:
        saved: the longest time that a checkpoint of this life has taken until it was complete on
            storage; None before the first one is.
        stepped: the longest time that a step of the life before has taken, its loading included;
            None if no rank has done as many steps in one as have the ceiling.
    """

    saved: float | None = None
    stepped: float | None = None


_NOTHING = Learned()


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is known of a rank.

    Attributes:
        beat: its last beat.
        began: its steps when this life began to train, which it knows when a checkpoint is loaded.
        heard: the counted time of the job at its last beat, in seconds.
        stood: the time from when it moved to its last beat, in seconds.
        ticks: its ticks when it moved.
        longest: the longest time that it stood in this entry of its phase, in seconds.
        opened: its steps when it began the pass that it is in.
        durations: stage -> how long it stood in it, for each stage that it has left once. A stage
            is a phase, or `_OPENING`.
        is_connected: whether its end of the control channel is connected.
        is_excused: whether its stack has shown that it works, until it moves.
    """

    beat: Beat
    began: int
    heard: float
    stood: float
    ticks: int
    longest: float = 0.0
    opened: int = 0
    durations: Mapping[str, Durations] = field(default_factory=dict)
    is_connected: bool = True
    is_excused: bool = False

    def idle(self, clock: float) -> float:
        """Return the time since it moved, in seconds.

        Args:
            clock: the counted time of the job, in seconds.
        """
        return self.stood + clock - self.heard

    def stands(
        self,
        clock: float,
        limits: Limits,
        furthest: Place = _NOWHERE,
        learned: Learned = _NOTHING,
    ) -> bool:
        """Return whether it stands for longer than it may.

        If it is silent, and others have come further since, it is not known any more what it does:
        it could not stay behind them, since they wait for each other in each step.

        Args:
            clock: the counted time of the job, in seconds.
            limits: how long a rank may stand.
            furthest: the furthest place of all ranks.
            learned: what the job has shown.
        """
        idle = self.idle(clock)
        if clock - self.heard > limits.silence and self.beat.place < furthest:
            return idle >= (limits.ceiling if self.is_excused else limits.floor)
        is_busy = self.beat.ticks - self.ticks > _BUSY * idle  # its main thread runs Python code
        return idle >= (limits.ceiling if is_busy else 0.0) and idle >= self.limit(limits, learned)

    @property
    def stage(self) -> str:
        """What its durations are compared with: loading and the first step of a pass are alike."""
        phase, steps = self.beat.phase, self.beat.place.steps
        is_opening = phase is Phase.INIT or (phase in _STEPPING and steps == self.opened)
        return _OPENING if is_opening else str(phase)

    @property
    def longest_step(self) -> float:
        """The longest time that it stood in a step or in front of one, loading included."""
        stages = (_OPENING, *map(str, _STEPPING))
        known = (self.durations[one].longest for one in stages if one in self.durations)
        return max(known, default=0.0)

    def is_early(self, limits: Limits) -> bool:
        """Whether it has done fewer steps than have the ceiling."""
        return self.beat.place.steps - self.began < limits.first_steps

    def limit(self, limits: Limits, learned: Learned = _NOTHING) -> float:
        """Return the time that it may stand where it is, in seconds; see `stands`."""
        durations = self.durations.get(self.stage)
        # The first step of a pass is slower by far than the others, and rarely the same.
        factor = limits.factor if self.stage != _OPENING else 0.0
        usual = durations.limit(factor) if durations is not None else 0.0
        return max(self._least(limits, learned), usual)

    def _least(self, limits: Limits, learned: Learned) -> float:
        """Return the time that it may stand whatever its phase has usually taken."""
        phase = self.beat.phase
        if phase is Phase.CHECKPOINT and learned.saved is not None and not self.is_excused:
            return limits.of_save(learned.saved)
        is_first = self.stage not in self.durations and self.stage not in _STEPPING
        if is_first or phase in _NEVER_SHORT or self.is_excused:
            return limits.ceiling
        if phase not in _STEPPING or not self.is_early(limits):
            return limits.floor
        return limits.ceiling if learned.stepped is None else limits.of_first_steps(learned.stepped)


def begun(beat: Beat, clock: float) -> Track:
    """Return the track of a rank that is heard for the first time.

    Args:
        beat: its beat.
        clock: the counted time of the job, in seconds.
    """
    steps = beat.place.steps
    return Track(beat=beat, began=steps, opened=steps, heard=clock, stood=0.0, ticks=beat.ticks)


def followed(track: Track, beat: Beat, clock: float) -> Track:
    """Return the track after another beat.

    Args:
        track: the track up to then.
        beat: the beat.
        clock: the counted time of the job, in seconds.
    """
    before, idle = track.beat, track.idle(clock)
    is_elsewhere = (before.place, before.phase) != (beat.place, beat.phase)
    if not is_elsewhere and beat.phase_seconds >= before.phase_seconds:
        stood = min(idle, beat.phase_seconds)
        return replace(track, beat=beat, heard=clock, stood=stood, is_connected=True)
    since = min(clock - track.heard, beat.phase_seconds)
    stood = track.stood + (clock - track.heard - since) / _steps_between(before, beat)
    longest, durations = max(track.longest, stood), track.durations
    if beat.phase != before.phase or before.phase in _STEPPING:
        known = durations.get(track.stage, Durations())
        durations = {**durations, track.stage: known.with_one(longest)}
        longest = 0.0
    return Track(
        beat=beat,
        began=beat.place.steps if before.phase is Phase.INIT else track.began,
        heard=clock,
        stood=since,
        ticks=beat.ticks,
        longest=longest,
        opened=_opened(track, beat),
        durations=durations,
    )


def _steps_between(before: Beat, beat: Beat) -> int:
    """Return among how many steps the time between two beats is divided, at least 1."""
    return max(1, beat.place.steps - before.place.steps) if before.phase in _STEPPING else 1


def _opened(track: Track, beat: Beat) -> int:
    """Return the steps at which the pass of a beat began, or more if that is unknown."""
    before = track.beat
    if before.phase not in _STEPPING:
        return before.place.steps
    return track.opened if beat.place.epochs == before.place.epochs else beat.place.steps
