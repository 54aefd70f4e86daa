"""What a tracker makes of the beats of ranks: rates, estimates, a curve, and an account of time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.progress.curve import Curve
from runtime.control.progress.snapshot import (
    CheckpointProgress,
    Snapshot,
    Tier,
    Totals,
    Verdict,
    VerdictKind,
)
from runtime.control.progress.tracker import Tracker

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HANG = Verdict(kind=VerdictKind.HANG, text="rank 1 hangs", rank=1)
SLOW = Verdict(kind=VerdictKind.STRAGGLER, text="rank 1 is slow", rank=1)
BATCH = 8


@dataclass
class Training:
    """Rank 0 of a training that goes as it is told, and beats once a second."""

    tracker: Tracker
    now: float = 0.0
    step: float = 0.0
    epoch: int = 1
    life: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def beat(self, phase: Phase) -> None:
        place = Place(int(self.step + 1e-6), self.epoch)
        beat = Beat(place=place, phase=phase, samples=place.steps * BATCH, **self.more)
        self.tracker.hear(0, beat, self.now, life=self.life)

    def go(self, phase: Phase, seconds: int, *, rate: float = 0.0) -> "Training":
        """Be in a phase for some seconds, with some steps a second."""
        for _ in range(seconds):
            self.now += 1
            self.step += rate
            self.beat(phase)
        return self

    def restart(self, *, step: int) -> None:
        self.life += 1
        self.step = step
        self.tracker.begin(self.life, self.now)

    def known(self) -> Snapshot:
        return self.tracker.snapshot(self.now, AT)


@pytest.fixture
def training() -> Training:
    """A training of 10 epochs of 100 steps, with 2 ranks."""
    tracker = Tracker(attempt=0, ranks=2, now=0.0, name="digits")
    tracker.plan(Totals(epochs=10, steps_per_epoch=100))
    return Training(tracker)


def test_steady_steps_give_rate_percentage_and_estimate(training: Training) -> None:
    known = training.go(Phase.INIT, 5).go(Phase.STEP, 100, rate=2.5).known()
    assert (known.step, known.total_steps, known.percent, known.epochs) == (250, 1000, 25, 10)
    assert known.step_seconds == pytest.approx(0.4, rel=0.01)
    assert known.samples_per_second == pytest.approx(2.5 * BATCH, rel=0.01)
    assert known.eta_seconds == pytest.approx(300, rel=0.01)


def test_the_step_is_not_known_before_the_checkpoint_is_loaded(training: Training) -> None:
    training.epoch = 0
    assert training.go(Phase.INIT, 5).known().step is None
    training.step, training.epoch = 500, 6
    known = training.go(Phase.INIT, 1).known()
    assert (known.step, known.epoch, known.percent) == (500, 6, 50)


@pytest.mark.parametrize("phase", [Phase.CHECKPOINT, Phase.EVALUATION, Phase.AGREEMENT, Phase.USER])
def test_a_pause_changes_no_rate(training: Training, phase: Phase) -> None:
    training.go(Phase.STEP, 60, rate=2.0)
    before = training.known()
    after = training.go(phase, 300).go(Phase.STEP, 10, rate=2.0).known()
    assert after.step_seconds == pytest.approx(before.step_seconds)
    assert after.samples_per_second == pytest.approx(before.samples_per_second)


def test_a_stop_in_a_debugger_counts_for_ten_steps_at_most(training: Training) -> None:
    training.more = {"step_seconds": 0.5}
    training.go(Phase.STEP, 60, rate=2.0).go(Phase.STEP, 600).go(Phase.STEP, 1, rate=1.0)
    assert training.known().step_seconds == pytest.approx(0.5, rel=0.25)


def test_the_rate_follows_a_change(training: Training) -> None:
    training.go(Phase.STEP, 60, rate=2.0).go(Phase.STEP, 60, rate=1.0)
    assert training.known().step_seconds == pytest.approx(1.0, rel=0.1)


def test_the_first_step_of_a_life_which_compiles_is_not_measured(training: Training) -> None:
    training.go(Phase.STEP, 60).go(Phase.STEP, 3, rate=2.0)
    assert training.known().step_seconds == pytest.approx(0.5)


def test_steps_that_take_longer_than_a_beat_are_measured(training: Training) -> None:
    for _ in range(6):
        training.go(Phase.STEP, 29).go(Phase.STEP, 1, rate=1.0)
    assert training.known().step_seconds == pytest.approx(30)
    assert training.known().eta_seconds == pytest.approx(994 * 30)
    assert training.go(Phase.STEP, 12).known().eta_seconds == pytest.approx(994 * 30 - 12)


def test_before_a_step_is_measured_the_median_of_rank_0_counts(training: Training) -> None:
    training.more = {"step_seconds": 0.25}
    known = training.go(Phase.STEP, 1, rate=4.0).known()
    assert (known.step_seconds, known.samples_per_second) == (0.25, None)
    assert known.eta_seconds == pytest.approx(996 * 0.25)


def test_the_estimate_has_the_evaluations_that_are_still_to_come(training: Training) -> None:
    for _ in range(4):
        training.go(Phase.STEP, 50, rate=2.0).go(Phase.EVALUATION, 30)
        training.epoch += 1
    training.go(Phase.STEP, 1, rate=2.0)
    # 598 steps are left, and the evaluations of the epochs 5 to 10
    assert training.known().eta_seconds == pytest.approx(299 + 6 * 30, abs=3)
    training.go(Phase.STEP, 49, rate=2.0).go(Phase.EVALUATION, 10)
    assert training.known().eta_seconds == pytest.approx(250 + 20 + 5 * 30, abs=3)


def test_an_evaluation_before_the_first_step_is_not_expected_again(training: Training) -> None:
    training.go(Phase.EVALUATION, 100).go(Phase.STEP, 50, rate=2.0)
    training.epoch += 1
    assert training.go(Phase.STEP, 1, rate=2.0).known().eta_seconds == pytest.approx(449, abs=2)


@pytest.mark.parametrize(
    ("totals", "total", "percent"),
    [
        pytest.param(Totals(), None, None, id="nothing: unknown"),
        pytest.param(Totals(epochs=2), None, None, id="epochs alone: unknown"),
        pytest.param(Totals(epochs=3, steps_per_epoch=50), 150, 66, id="epochs and their steps"),
        pytest.param(Totals(epochs=9, steps_per_epoch=9, total_steps=200), 200, 50, id="the total"),
        pytest.param(Totals(total_steps=60), 60, 100, id="more steps than were told: all is done"),
        pytest.param(Totals(total_steps=0), 0, None, id="no steps at all: no percentage"),
    ],
)
def test_what_is_known_of_the_length(
    training: Training, totals: Totals, total: int | None, percent: int | None
) -> None:
    training.tracker.plan(totals)
    known = training.go(Phase.STEP, 50, rate=2.0).known()
    assert (known.total_steps, known.percent) == (total, percent)
    assert (known.eta_seconds is None) == (total is None)


def test_before_the_first_beat_nothing_but_the_plan_is_known(training: Training) -> None:
    known = training.known()
    assert (known.step, known.eta_seconds, known.loss, known.goodput.ratio) == (None,) * 4
    assert (known.total_steps, known.name, len(known.ranks)) == (1000, "digits", 2)
    assert known.ranks[1].phase is None


# -- ranks --


def test_a_rank_is_as_it_last_said_and_the_time_goes_on(training: Training) -> None:
    tracker = training.tracker
    beat = Beat(place=Place(3, 1), phase=Phase.STEP, step_seconds=0.5, own_seconds=0.4)
    tracker.hear(1, beat, 10.0, life=0)
    assert tracker.snapshot(12.0, AT).ranks[1].seconds_since_step is None
    tracker.hear(1, replace(beat, place=Place(4, 1), phase_seconds=0.25), 11.0, life=0)
    found = tracker.snapshot(12.0, AT).ranks[1]
    assert (found.seconds_since_step, found.seconds_since_beat) == (1.25, 1.0)
    assert (found.place, found.step_seconds, found.own_seconds) == (Place(4, 1), 0.5, 0.4)


def test_the_time_of_the_last_step_is_one_of_the_calendar(training: Training) -> None:
    training.go(Phase.STEP, 2, rate=1.0).go(Phase.STEP, 30)
    assert training.known().last_step_time == AT - timedelta(seconds=30)


@pytest.mark.parametrize(
    ("rank", "life", "place"),
    [
        pytest.param(0, 0, Place(7, 7), id="an old life"),
        pytest.param(0, 2, Place(7, 7), id="a life to come"),
        pytest.param(2, 1, Place(7, 7), id="a rank beyond the world"),
        pytest.param(-1, 1, Place(7, 7), id="a negative rank"),
        pytest.param(0, 1, Place(4, 1), id="a place that has fallen"),
    ],
)
def test_a_beat_never_counts_of(training: Training, rank: int, life: int, place: Place) -> None:
    training.restart(step=5)
    training.go(Phase.STEP, 1)
    before = training.known()
    training.tracker.hear(rank, Beat(place=place, phase=Phase.DONE), training.now, life=life)
    assert training.known() == before


def test_ranks_that_do_not_exist_take_no_memory(training: Training) -> None:
    for rank in range(-99, 99):
        training.tracker.hear(rank, Beat(place=Place(), phase=Phase.INIT), 1.0, life=0)
    assert set(training.tracker._heard) == {0, 1}


def test_only_rank_0s_metrics_are_kept_and_few_of_them(training: Training) -> None:
    given = {f"{number}\n" * 99: 1.0 for number in range(99)}
    for rank in (0, 1):
        beat = Beat(place=Place(), phase=Phase.STEP, metrics=given)
        training.tracker.hear(rank, beat, 1.0, life=0)
    assert len(training.known().metrics) == 32
    assert all(len(name) == 64 and name.isprintable() for name in training.known().metrics)
    assert training.tracker._heard[1].beat.metrics == {}


def test_the_time_between_two_lives_is_no_step(training: Training) -> None:
    training.go(Phase.STEP, 30, rate=2.0)
    training.now += 600
    training.restart(step=60)
    assert training.go(Phase.STEP, 20, rate=2.0).known().step_seconds == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        pytest.param(2, 2.0, id="a whole number"),
        pytest.param(10**400, float("inf"), id="one that is too large"),
        pytest.param(-(10**400), -float("inf"), id="one that is too small"),
    ],
)
def test_a_loss_is_a_float(training: Training, loss: int, shown: float) -> None:
    training.more = {"loss": loss}
    known = training.go(Phase.STEP, 1, rate=1.0).known()
    assert (known.loss, type(known.loss)) == (shown, float)


def test_a_new_life_forgets_the_beats_and_verdicts_of_the_old_one(training: Training) -> None:
    training.go(Phase.STEP, 3, rate=1.0)
    training.tracker.judge([HANG], training.now)
    training.restart(step=0)
    known = training.known()
    assert (known.life, known.step, known.verdicts) == (1, None, ())
    assert {one.place for one in known.ranks} == {None}


def test_the_newest_checkpoint_comes_first_and_few_are_kept(training: Training) -> None:
    for step in range(50):
        training.tracker.saved(CheckpointProgress(step=step, tier=Tier.MEMORY, time=AT))
    known = training.known()
    assert known.checkpoint is not None
    assert [one.step for one in known.checkpoints] == list(range(49, 39, -1))


# -- the curve --


def test_a_resumed_training_overwrites_the_losses_that_it_computes_again(
    training: Training,
) -> None:
    training.more = {"loss": 2.0}
    training.go(Phase.STEP, 10, rate=1.0)
    training.restart(step=4)
    training.more = {"loss": 1.0}
    training.go(Phase.STEP, 3, rate=1.0)
    losses = training.known().losses
    assert losses == (*((step, 2.0) for step in range(1, 5)), *((step, 1.0) for step in (5, 6, 7)))


def test_a_loss_that_is_no_number_is_shown_and_not_drawn(training: Training) -> None:
    training.more = {"loss": float("nan")}
    known = training.go(Phase.STEP, 3, rate=1.0).known()
    assert str(known.loss) == "nan"
    assert known.losses == ()


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=60),
    st.integers(1, 40),
    st.sampled_from([4, 10, 50]),
)
def test_a_curve_is_bounded_and_even(steps: list[int], repeats: int, limit: int) -> None:
    curve, last = Curve(limit), 0
    for step in steps * repeats:
        last += step
        curve.add(last, float(last))
    points = curve.points
    assert points[-1] == (last, float(last))
    assert len(points) <= limit
    assert points[0][0] == steps[0]
    assert list(points) == sorted(set(points))
    gaps = [after[0] - before[0] for before, after in pairwise(points)]
    # Evenly: no gap is larger than the mean of a curve at its sparsest, and one distance of steps.
    assert all(gap <= 4 * last / limit + 2 * max(steps) for gap in gaps)


# -- the account of time --


def lost(known: Snapshot) -> dict[str, float]:
    found = known.goodput.lost
    names = ("starting", "loading", "redone", "checkpoint", "hang")
    return {name: round(getattr(found, name), 3) for name in names if getattr(found, name)}


def begin(training: Training) -> Iterator[Training]:
    """Five seconds until the first beat, five more until the first batch, 60 of training."""
    training.now = 4.0
    yield training.go(Phase.INIT, 5).go(Phase.STEP, 61, rate=2.0)


def test_time_is_productive_or_lost(training: Training) -> None:
    (_,) = begin(training)
    known = training.go(Phase.CHECKPOINT, 10).go(Phase.STEP, 20, rate=2.0).known()
    assert lost(known) == {"starting": 5, "loading": 5, "checkpoint": 10}
    assert known.goodput.productive_seconds == pytest.approx(79, abs=2)
    assert known.goodput.ratio == pytest.approx(79 / 100, abs=0.03)
    assert (known.goodput.lost.pending, known.goodput.lost.stopped) == (None, None)


def test_the_time_since_the_last_beat_counts_already(training: Training) -> None:
    training.now = 4.0
    training.go(Phase.INIT, 1)
    assert lost(training.tracker.snapshot(25.0, AT)) == {"starting": 5, "loading": 20}


def test_steps_that_are_executed_again_are_lost_once(training: Training) -> None:
    (_,) = begin(training)
    training.restart(step=82)  # it has done 122 steps
    training.go(Phase.INIT, 4).go(Phase.STEP, 61, rate=2.0)
    known = training.known()
    assert lost(known) == {"starting": 6, "loading": 9, "redone": pytest.approx(19, abs=1.1)}
    assert known.goodput.productive_seconds == pytest.approx(101, abs=2)


def test_a_resumed_attempt_is_not_credited_with_the_steps_of_the_one_before(
    training: Training,
) -> None:
    training.step = 500
    known = training.go(Phase.INIT, 5).go(Phase.STEP, 21, rate=2.0).known()
    assert known.goodput.productive_seconds == pytest.approx(20, abs=1)


def test_steps_are_productive_for_as_long_as_each_took(training: Training) -> None:
    training.go(Phase.STEP, 41, rate=0.5).go(Phase.STEP, 20, rate=300.0)
    assert training.known().goodput.productive_seconds == pytest.approx(60, abs=3)


def test_steps_before_the_first_beat_of_the_training_have_been_done(training: Training) -> None:
    training.step = 504
    assert not training.go(Phase.STEP, 1).tracker.has_stepped  # it may go on from there
    training.tracker.plan(Totals(epochs=10, steps_per_epoch=100, first_step=500))
    assert training.tracker.has_stepped
    training.restart(step=504)
    assert not training.go(Phase.STEP, 1).tracker.has_stepped


def test_steps_before_the_first_beat_of_the_training_are_productive(training: Training) -> None:
    training.go(Phase.INIT, 4)
    training.tracker.plan(Totals(epochs=10, steps_per_epoch=100, first_step=500))
    training.step, training.more = 1000, {"step_seconds": 0.001}
    goodput = training.go(Phase.USER, 1).known().goodput
    assert goodput.productive_seconds == pytest.approx(0.5)
    training.restart(step=900)
    training.tracker.plan(Totals(epochs=10, steps_per_epoch=100, first_step=900))
    training.step = 1100
    goodput = training.go(Phase.USER, 1).known().goodput
    assert goodput.productive_seconds == pytest.approx(0.6)
    assert goodput.lost.redone == pytest.approx(0.1)


def test_a_hang_is_lost_from_its_last_step_to_the_next_one(training: Training) -> None:
    (_,) = begin(training)
    training.go(Phase.STEP, 30)
    training.tracker.judge([HANG, SLOW], training.now)
    training.go(Phase.STEP, 12)
    assert lost(training.known()) == {"starting": 5, "loading": 5, "hang": 42}
    training.tracker.judge([SLOW], training.now)
    training.go(Phase.STEP, 10, rate=2.0)
    assert lost(training.known()) == {"starting": 5, "loading": 5, "hang": 42}


def test_a_hang_that_ends_with_its_life_is_lost_until_the_next_one(training: Training) -> None:
    (_,) = begin(training)
    training.go(Phase.STEP, 30)
    training.tracker.judge([HANG], training.now)
    training.now += 3
    training.restart(step=122)
    training.go(Phase.INIT, 1)
    assert lost(training.known()) == {"starting": 6, "loading": 5, "hang": 33}


@given(
    st.lists(
        st.tuples(st.sampled_from([*Phase, None, True, False]), st.integers(0, 30)), max_size=12
    )
)
def test_no_second_is_lost_twice_and_nothing_falls(parts: list[tuple[Any, int]]) -> None:
    """None is a new life, which resumes without a loss; True and False are hang verdicts."""
    training = Training(Tracker(attempt=0, ranks=1, now=0.0))
    before = training.known().goodput.lost
    for what, seconds in parts:
        if what is None:
            training.now += seconds
            training.restart(step=int(training.step))
        elif isinstance(what, bool):
            training.tracker.judge([HANG] * what, training.now)
        else:
            rate = 1.0 if what in (Phase.DATA, Phase.STEP) else 0.0
            training.go(what, seconds, rate=rate)
        goodput = training.known().goodput
        names = ("starting", "loading", "redone", "checkpoint", "hang")
        assert all(getattr(goodput.lost, name) >= getattr(before, name) for name in names)
        assert sum(getattr(goodput.lost, name) for name in names) <= training.now + 1e-6
        before = goodput.lost
