"""What bench/goodput computes from the story of a training."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.goodput.ledger import Entry, Kind
from bench.goodput.lineage import Lineage, Misses
from bench.goodput.metrics import SPENT, Figures, oracle
from bench.goodput.outages import Exit, Hit, Split, Story, outages
from bench.goodput.schedule import SLOW, Fault, Strike
from bench.goodput.workloads import Work

WORK = Work(ranks=2, batch=2, samples=40, epochs=2)  # 20 steps
STEP = 0.05
OLD, NEW = 100, 200  # process IDs of rank 0; rank 1 has the next one


def ids(step: int, rank: int) -> tuple[int, ...]:
    """The samples of a rank in a step."""
    begin = (step * 2 + rank) * 2 % WORK.samples
    return (begin, begin + 1)


def steps(numbers: Sequence[int], *, at: float, pid: int) -> list[Entry]:
    """Steps of both ranks, one after the other from a time on."""
    return [
        Entry(
            kind=Kind.STEP,
            rank=rank,
            pid=pid + rank,
            step=step,
            began=at + place * STEP,
            ended=at + (place + 1) * STEP,
            ids=ids(step, rank),
        )
        for place, step in enumerate(numbers)
        for rank in range(WORK.ranks)
    ]


def marks(times: dict[Kind, float], pid: int) -> list[Entry]:
    """What both ranks say of a start."""
    return [
        Entry(kind=kind, rank=rank, pid=pid + rank, ended=at)
        for kind, at in times.items()
        for rank in range(WORK.ranks)
    ]


def killed() -> Story:
    """Rank 1 is killed after ten steps, and the training goes on from step 7."""
    start = {Kind.BORN: 2.0, Kind.IMPORTED: 4.0, Kind.JOINED: 4.5, Kind.LOADED: 5.0}
    entries = [
        *steps(range(10), at=0.0, pid=OLD),
        *marks(start, NEW),
        *steps(range(7, 20), at=5.0, pid=NEW),
        Entry(kind=Kind.DONE, rank=0, pid=NEW, ended=5.7, value=42),
    ]
    hit = Hit(0.52, Strike(0.52, Fault.KILL, 1), OLD + 1)
    return Story(entries, [hit], [Exit(0.53, OLD + 1), Exit(1.0, OLD)])


def test_a_killed_rank_costs_these_parts_of_the_time() -> None:
    (outage,) = outages(killed(), patience=0.25)
    assert outage.redone == 3
    assert outage.seconds == pytest.approx(5.05 - 0.52)
    parts = [0.48, 0.0, 3.0, 0.5, 0.5, 0.05]  # the end of the rank that was not killed is noticed
    for part, expected in zip(Split.__dataclass_fields__, parts, strict=True):
        assert getattr(outage.split, part) == pytest.approx(expected), part


def test_the_figures_of_a_training_with_a_killed_rank() -> None:
    figures = Figures.of(killed(), WORK, STEP)
    assert figures.seconds == pytest.approx(5.65)
    assert figures.goodput == pytest.approx(20 * STEP / 5.65)
    assert figures.redone == 3
    assert (figures.lost, figures.repeated, figures.digest) == (0, 0, 42)
    assert figures.spent["redone"] == pytest.approx(3 * STEP)
    assert sum(figures.spent.values()) == pytest.approx(figures.seconds)
    assert tuple(figures.spent) == SPENT


def test_a_rank_that_hangs_is_noticed_when_it_is_killed() -> None:
    story = killed()
    hang = replace(story.hits[0], strike=Strike(0.52, Fault.HANG, 1))
    ends = [Exit(1.6, OLD + 1), Exit(1.9, OLD)]
    (outage,) = outages(Story(story.entries, [hang], ends), patience=0.25)
    assert outage.split.detect == pytest.approx(1.6 - 0.52)
    assert outage.split.stop == pytest.approx(0.3)


def test_a_fault_during_an_outage_belongs_to_it() -> None:
    story = killed()
    again = Hit(3.0, Strike(3.0, Fault.KILL_FIRST, 0), NEW - 10)
    (outage,) = outages(Story(story.entries, [*story.hits, again], story.exits), patience=0.25)
    assert [hit.strike.fault for hit in outage.hits] == [Fault.KILL, Fault.KILL_FIRST]


def test_a_fault_while_the_training_goes_on_has_an_outage_of_its_own() -> None:
    story = killed()
    again = Hit(5.3, Strike(5.3, Fault.STRAGGLE, 1), NEW + 1)
    first, second = outages(Story(story.entries, [*story.hits, again], story.exits), patience=0.25)
    assert first.redone == 3
    assert second.redone == 0
    assert second.seconds == pytest.approx(STEP)


def test_a_preempted_rank_that_trains_until_all_stop_has_its_outage_then() -> None:
    story = killed()
    asked = Hit(0.22, Strike(0.22, Fault.PREEMPT, 1), OLD + 1)
    (outage,) = outages(Story(story.entries, [asked], story.exits), patience=0.25)
    assert outage.began == pytest.approx(0.5)


def test_a_fault_after_the_last_step_has_no_outage() -> None:
    late = Hit(6.0, Strike(6.0, Fault.KILL, 1), NEW + 1)
    assert outages(Story(killed().entries, [late], []), patience=0.25) == []


def test_a_process_that_restarts_within_itself_has_parts_too() -> None:
    start = {Kind.IMPORTED: 1.5, Kind.JOINED: 1.7, Kind.LOADED: 1.8}
    entries = [
        *steps(range(10), at=0.0, pid=OLD),
        *marks(start, OLD),
        *steps(range(9, 20), at=1.8, pid=OLD),
    ]
    hit = Hit(0.52, Strike(0.52, Fault.KILL, 1), OLD + 9)
    (outage,) = outages(Story(entries, [hit], []), patience=0.25)
    assert outage.split.detect == pytest.approx(1.5 - 0.52)
    assert outage.split.stop == outage.split.start == 0.0
    assert outage.split.join == pytest.approx(0.2)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 20)), max_size=6))
def test_each_step_of_a_training_that_is_set_back_counts_once(
    setbacks: list[tuple[int, int]],
) -> None:
    """A life begins at a step that was reached, and goes on for some steps."""
    reached, at, entries = 0, 0.0, []
    lives = [(0, 3), *setbacks, (0, 20)]
    for begin, count in lives:
        first = min(begin, reached)
        numbers = range(first, min(20, first + count))
        if begin == 0 and count == 20:
            numbers = range(first, 20)
        entries += steps(numbers, at=at, pid=OLD)
        at += 10.0
        reached = numbers.stop if count else reached
    lineage = Lineage.of(entries)
    for rank in range(WORK.ranks):
        own = [entry.step for entry in lineage.kept if entry.rank == rank]
        assert own == list(range(20))
    assert len(lineage.kept) + len(lineage.undone) == len(entries)
    assert Misses.of(lineage.samples, samples=40, epochs=2) == Misses(0, 0)


@pytest.mark.parametrize(
    ("changed", "lost", "repeated"),
    [
        pytest.param(lambda found: found, 0, 0, id="all samples"),
        pytest.param(lambda found: found[:-1], 2, 0, id="the last step of a rank is missing"),
        pytest.param(
            lambda found: [*found, replace(found[0], step=20)], 0, 2, id="a batch comes twice"
        ),
        pytest.param(
            lambda found: [replace(found[0], ids=found[1].ids), *found[1:]],
            *(2, 2),
            id="both ranks read the same batch",
        ),
    ],
)
def test_samples_that_are_lost_or_repeated_are_counted(
    changed: "object", lost: int, repeated: int
) -> None:
    assert callable(changed)
    done = Entry(kind=Kind.DONE, rank=0, pid=OLD, ended=2.0)
    found = [*changed(steps(range(20), at=0.0, pid=OLD)), done]
    figures = Figures.of(Story(found, [], []), WORK, STEP)
    assert (figures.lost, figures.repeated) == (lost, repeated)


def test_samples_of_a_training_that_did_not_end_are_not_lost() -> None:
    figures = Figures.of(Story(steps(range(10), at=0.0, pid=OLD), [], []), WORK, STEP)
    assert (figures.lost, figures.digest) == (0, None)


def test_slower_steps_without_faults_lower_the_goodput() -> None:
    story = Story(steps(range(20), at=0.0, pid=OLD), [], [])
    assert Figures.of(story, WORK, None).goodput == 1.0
    assert Figures.of(story, WORK, STEP / 2).goodput == pytest.approx(0.5)
    assert Figures.of(story, WORK, STEP / 2).spent["slower"] == pytest.approx(10 * STEP)


def test_a_training_without_a_step_has_no_figures() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Figures.of(Story([], [], []), WORK, STEP)


def strike(at: float, fault: Fault = Fault.KILL) -> Strike:
    return Strike(at, fault, 1)


@pytest.mark.parametrize(
    ("strikes", "seconds"),
    [
        pytest.param([], 100, id="no fault"),
        pytest.param([strike(10)], 102, id="one restart"),
        pytest.param([strike(10), strike(50)], 104, id="two restarts"),
        pytest.param([strike(10), strike(11)], 103, id="a restart begins again"),
        pytest.param([strike(10, Fault.STRAGGLE)], 100 + SLOW / 2, id="a slow rank"),
        pytest.param([strike(100)], 100, id="a fault at the end"),
        pytest.param([strike(101), strike(50)][::-1], 104, id="a fault in the time of a restart"),
    ],
)
def test_the_oracle_redoes_nothing(strikes: list[Strike], seconds: float) -> None:
    assert oracle(strikes, seconds=100, restart=2) == pytest.approx(seconds)


@given(st.lists(st.floats(0.1, 200), max_size=8), st.floats(0, 5))
def test_the_oracle_takes_no_longer_than_all_restarts(times: list[float], restart: float) -> None:
    strikes = [strike(at) for at in itertools.accumulate(times)]
    found = oracle(strikes, seconds=100, restart=restart)
    assert 100 - 1e-6 <= found <= 100 + len(strikes) * restart + 1e-6


def test_the_time_of_a_training_that_was_given_up_lasts_until_then() -> None:
    entries = steps(range(10), at=0.0, pid=OLD)
    given_up = Figures.of(Story(entries, [], [], until=10.0), WORK, STEP)
    ended = Figures.of(Story(entries, [], []), WORK, STEP)
    assert given_up.seconds == pytest.approx(10.0, abs=0.1)
    assert given_up.goodput == pytest.approx(ended.goodput * ended.seconds / given_up.seconds)
