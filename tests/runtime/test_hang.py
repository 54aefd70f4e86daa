"""The judge of hangs, driven by simulated ranks: true hangs are found, and nothing else is."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.control.beat import Beat, Phase
from runtime.control.frames import Frame
from runtime.control.place import Place
from runtime.control.verdicts.culprit import Evidence
from runtime.control.verdicts.durations import Durations
from runtime.control.verdicts.hang import Order, Watch
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.track import Learned, Limits
from runtime.control.verdicts.verdict import Verdict

SCRIPT = Frame("/app/train.py", 12, "main")
WAITS = Frame("/usr/lib/torch/distributed/distributed_c10d.py", 3000, "all_reduce")
SAVES = Frame("/usr/lib/runtime/checkpoint/writer.py", 99, "wait")
COMPILES = Frame("/usr/lib/torch/_dynamo/convert_frame.py", 9, "_compile")
HOMES = {0: Home(0, "n1"), 1: Home(1, "n2")}


@dataclasses.dataclass(frozen=True)
class Stay:
    """A rank does something for a time without passing a boundary; `steps` are behind it then."""

    phase: Phase
    seconds: float
    steps: int = 0
    epoch: int = 0  # 1 if an epoch begins with it
    python_every: int = 0  # seconds; 0 = it runs no Python code


Trace = Sequence[Stay]


def steps(count: int, seconds: float = 0.5) -> list[Stay]:
    return [Stay(Phase.STEP, seconds, steps=1)] * count


def beat_of(done: int, phase: Phase, since: float, ticks: int = 0, epochs: int = 0) -> Beat:
    return Beat(place=Place(done, epochs), phase=phase, phase_seconds=since, ticks=ticks)


def beats(trace: Trace, *, begin: float = 0.0) -> Iterator[tuple[float, Beat]]:
    """Yield (time, beat) for each second of a rank that lives as a trace says."""
    done, start, ticks, second, epochs = 0, begin, 0, begin, 0
    for stay in trace:
        epochs += stay.epoch
        while second < start + stay.seconds:
            since = second - start
            ticks += stay.python_every > 0 and int(since) % stay.python_every == 0
            yield second, beat_of(done, stay.phase, since, ticks, epochs)
            second += 1.0
        start, done = start + stay.seconds, done + stay.steps


def events(
    traces: Mapping[int, Trace], hidden: Callable[[int, float], bool]
) -> list[tuple[float, int, Beat]]:
    """All beats of a world in the order of their times, without those that are hidden."""
    told = [
        (at, rank, beat)
        for rank, trace in traces.items()
        for at, beat in beats(trace, begin=rank * 0.3)
        if not hidden(rank, at)
    ]
    return sorted(told, key=lambda one: one[:2])


REPORTS = {
    "waits": Report(stack=(WAITS, SCRIPT)),
    "works": Report(stack=(SCRIPT,)),
    "compiles": Report(stack=(COMPILES, SCRIPT)),
    "writes": Report(stack=(SAVES, SCRIPT)),
    "waits in a save": Report(stack=(WAITS, SAVES, SCRIPT)),
    "silent": None,
}


def verdicts(
    traces: Mapping[int, Trace],
    *,
    where: Mapping[int, str] | None = None,
    hidden: Callable[[int, float], bool] = lambda _rank, _at: False,
    clock: Callable[[float], float] = lambda at: at,
    orders: list[float] | None = None,
    begin: Watch | None = None,
) -> list[tuple[float, Verdict]]:
    """Drive a judge through a world; each rank that is asked answers at once.

    The times at which the judge asks are added to `orders`; it begins with what `begin` knows.
    """
    watch, found = begin or Watch(), []
    for at, rank, beat in events(traces, hidden):
        watch = watch.heard(watch.life, {rank: beat}, clock(at))
        watch, wish = watch.decided(HOMES)
        if wish is Order.COLLECT:
            orders = [] if orders is None else orders
            orders.append(at)
            for one in traces:
                report = REPORTS[(where or {}).get(one, "waits")]
                watch = watch.told(watch.life, one, report) if report else watch
            watch, wish = watch.decided(HOMES)
        if isinstance(wish, Verdict):
            found.append((at, wish))
    return found


TRAINED = steps(40)
SAVED = [*steps(9), Stay(Phase.CHECKPOINT, 1.6)]
AGREED = [*steps(9), Stay(Phase.AGREEMENT, 1.6)]
SLOW_PASS = [Stay(Phase.DATA, 19.0, epoch=1), *TRAINED]

PEACEFUL: dict[str, Mapping[int, Trace]] = {
    "a first step of 60 s": {
        rank: [Stay(Phase.INIT, 20.0), Stay(Phase.STEP, 60.0, steps=1), *TRAINED] for rank in (0, 1)
    },
    "a first step of 60 s after a checkpoint was loaded": {
        rank: [Stay(Phase.INIT, 5.0, steps=900), Stay(Phase.STEP, 60.0, steps=1), *TRAINED]
        for rank in (0, 1)
    },
    "a fifth step of 60 s after a checkpoint was loaded": {
        rank: [
            *(Stay(Phase.INIT, 5.0, steps=900), Stay(Phase.INIT, 5.0), *steps(4)),
            *(Stay(Phase.STEP, 60.0, steps=1), *TRAINED),
        ]
        for rank in (0, 1)
    },
    "an evaluation of 60 s without batches": {
        rank: [*TRAINED, Stay(Phase.EVALUATION, 60.0), *TRAINED] for rank in (0, 1)
    },
    "an evaluation of 60 s on rank 0 alone, after every epoch": {
        0: [*TRAINED, Stay(Phase.USER, 60.0), *TRAINED, Stay(Phase.USER, 70.0), *TRAINED],
        1: [*TRAINED, Stay(Phase.STEP, 60.0), *TRAINED, Stay(Phase.STEP, 70.0), *TRAINED],
    },
    "a checkpoint of 30 s after many short ones": {
        rank: [*SAVED, *SAVED, *SAVED, Stay(Phase.CHECKPOINT, 30.0), *TRAINED] for rank in (0, 1)
    },
    "an agreement that takes 60 s": {
        0: [*AGREED, *AGREED, *steps(9), Stay(Phase.AGREEMENT, 60.0), *TRAINED],
        1: [*AGREED, *AGREED, *steps(9), Stay(Phase.STEP, 60.0, steps=1), *TRAINED],
    },
    "loading for nine minutes": {
        rank: [Stay(Phase.INIT, 540.0), Stay(Phase.DATA, 30.0), *TRAINED] for rank in (0, 1)
    },
    "steps of 40 s": {rank: steps(12, 40.0) for rank in (0, 1)},
    "an evaluation as long as the one before it": {
        rank: [*TRAINED, Stay(Phase.EVALUATION, 50.0)] * 4 for rank in (0, 1)
    },
    "a validation in Python within a step, once in a while": {
        rank: [*TRAINED, Stay(Phase.STEP, 45.0, python_every=1), *TRAINED] for rank in (0, 1)
    },
    "workers that take 20 s to start at the begin of each pass": {
        rank: [Stay(Phase.INIT, 20.0), *TRAINED, *[Stay(Phase.USER, 0.1), *SLOW_PASS] * 3]
        for rank in (0, 1)
    },
    "one rank ends, the other goes on": {
        0: [*TRAINED, Stay(Phase.DONE, 300.0)],
        1: [*TRAINED, Stay(Phase.USER, 300.0)],
    },
    "both have ended": {rank: [*TRAINED, Stay(Phase.DONE, 90.0)] for rank in (0, 1)},
}


@pytest.mark.parametrize("traces", PEACEFUL.values(), ids=PEACEFUL)
def test_nobody_is_blamed_for(traces: Mapping[int, Trace]) -> None:
    assert verdicts(traces) == []


@pytest.mark.parametrize("rank_stops_later", [0.0, 2.5])
def test_nobody_is_blamed_while_a_debugger_stops_all_ranks(rank_stops_later: float) -> None:
    """The clocks of the ranks go on: afterwards all say that they have stood for 60 s."""

    def is_stopped(rank: int, at: float) -> bool:
        return 30 + rank * rank_stops_later <= at < 90 + rank * rank_stops_later

    traces = {rank: [*steps(60), Stay(Phase.STEP, 63.0, steps=1), *TRAINED] for rank in (0, 1)}
    assert verdicts(traces, hidden=is_stopped) == []


def test_nobody_is_blamed_for_a_pause_of_the_judge() -> None:
    """All beats of the pause come at once after it."""
    traces = {rank: steps(400) for rank in (0, 1)}
    assert verdicts(traces, clock=lambda at: max(at, 90.0) if at > 30 else at) == []
    slow = {rank: steps(40, 7.0) for rank in (0, 1)}
    assert verdicts(slow, clock=lambda at: at + (60 if at > 100 else 0)) == []


def test_nobody_is_blamed_in_200_lives() -> None:
    """What is known of a life is forgotten, and beats of the life before it count for nothing."""
    watch, now = Watch(), 0.0
    for number in range(200):
        life = Life(0, number)
        watch = watch.begun(life)
        old = Life(0, number - 1) if number else Life(1, 0)
        lived = [Stay(Phase.INIT, 15.0), Stay(Phase.STEP, 20.0, steps=1), *steps(20)]
        for at, rank, beat in events({0: lived, 1: lived}, lambda _rank, _at: False):
            watch = watch.heard(life, {rank: beat}, now + at)
            watch = watch.heard(old, {rank: beat_of(9, Phase.STEP, 900.0)}, now + at)
            watch, wish = watch.decided({})
            assert wish is None
        now += 60.0


HANGS: dict[str, tuple[Mapping[int, Trace], Mapping[int, str], int, Evidence]] = {
    "a rank that works while the other is in a collective": (
        {rank: [*TRAINED, Stay(Phase.STEP, 60.0)] for rank in (0, 1)},
        {1: "works"},
        1,
        Evidence.OUTSIDE,
    ),
    "a reader that hangs": (
        {0: [*TRAINED, Stay(Phase.DATA, 60.0)], 1: [*TRAINED, Stay(Phase.STEP, 60.0)]},
        {0: "works"},
        0,
        Evidence.OUTSIDE,
    ),
    "a rank that ended while the other waits": (
        {0: [*TRAINED, Stay(Phase.DONE, 90.0)], 1: [*TRAINED, Stay(Phase.STEP, 90.0)]},
        {},
        0,
        Evidence.ENDED,
    ),
    "a reader that polls its worker now and then": (
        {
            0: [*TRAINED, Stay(Phase.DATA, 60.0, python_every=5)],
            1: [*TRAINED, Stay(Phase.STEP, 60.0)],
        },
        {0: "works"},
        0,
        Evidence.OUTSIDE,
    ),
}


@pytest.mark.parametrize(("traces", "where", "rank", "why"), HANGS.values(), ids=HANGS)
def test_who_hangs_is_named_within_30_seconds(
    traces: Mapping[int, Trace], where: Mapping[int, str], rank: int, why: Evidence
) -> None:
    [(at, verdict)] = verdicts(traces, where=where)
    assert (verdict.rank, verdict.evidence) == (rank, why)
    assert at - 20.0 <= 30.0  # they stand after 40 steps of half a second


WAITS_IN_SAVE = "waits in a save"
STOPPED_IN_SAVES: dict[str, tuple[float | None, str, str, float]] = {
    # the seconds of the longest checkpoint, what the ranks do, and after how long it is a hang
    "after short saves": (0.5, WAITS_IN_SAVE, "silent", 60.0),
    "after saves of 20 s": (20.0, WAITS_IN_SAVE, "silent", 200.0),
    "after saves of 90 s": (90.0, WAITS_IN_SAVE, "silent", 600.0),
    "in the first save": (None, WAITS_IN_SAVE, "silent", 600.0),
    "in the script, not in what saves": (0.5, WAITS_IN_SAVE, "works", 60.0),
    "in a save that storage makes slow": (0.5, WAITS_IN_SAVE, "writes", 600.0),
    "while the other one still writes": (0.5, "writes", "silent", 600.0),
}


@pytest.mark.parametrize(
    ("saved", "zero", "one", "seconds"), STOPPED_IN_SAVES.values(), ids=STOPPED_IN_SAVES
)
def test_a_rank_that_hangs_in_a_save_is_named_in_time(
    saved: float | None, zero: str, one: str, seconds: float
) -> None:
    traces = {rank: [*TRAINED, Stay(Phase.CHECKPOINT, 640.0)] for rank in (0, 1)}
    [(at, verdict)] = verdicts(
        traces, where={0: zero, 1: one}, begin=Watch(learned=Learned(saved=saved))
    )
    assert seconds <= at - 20.0 <= seconds + 10.0
    assert verdict.rank == 1


def test_the_longest_checkpoint_counts_and_those_of_another_life_do_not() -> None:
    watch = Watch().completed(Life(), 3.0).completed(Life(), 1.0).completed(Life(0, 1), 9.0)
    assert watch.learned.saved == 3.0
    assert watch.begun(Life(0, 1)).learned.saved is None


def lived(trace: Trace) -> Watch:
    watch = Watch()
    for at, rank, beat in events({0: trace, 1: trace}, lambda _rank, _at: False):
        watch = watch.heard(watch.life, {rank: beat}, at)
    return watch


@pytest.mark.parametrize(
    ("before", "seconds"),
    [
        pytest.param([Stay(Phase.INIT, 1.0), *TRAINED], 10.0, id="the floor"),
        pytest.param([Stay(Phase.INIT, 4.0), *TRAINED], 20.0, id="five times its first step"),
        pytest.param([*TRAINED, *steps(4, 5.0)], 25.0, id="five times its longest step"),
        pytest.param([Stay(Phase.INIT, 200.0), *TRAINED], 600.0, id="at most the ceiling"),
        pytest.param([Stay(Phase.INIT, 4.0), *steps(4)], 600.0, id="one with too few steps"),
        pytest.param(
            [Stay(Phase.INIT, 4.0, steps=900), *steps(4)], 600.0, id="one that has loaded, likewise"
        ),
    ],
)
def test_the_first_steps_of_another_life_have_what_the_one_before_has_shown(
    before: list[Stay], seconds: float
) -> None:
    again = [Stay(Phase.INIT, 30.0), *steps(2), Stay(Phase.STEP, 700.0)]
    watch = lived(before).begun(Life(0, 1)).begun(Life(0, 2))  # a life without a step is between
    ((at, _),) = verdicts({0: again, 1: again}, begin=watch)
    assert seconds <= at - 31.0 <= seconds + 2.0


def test_a_save_may_take_twice_as_long_as_ever_before_also_beyond_the_ceiling() -> None:
    slow = [Stay(Phase.CHECKPOINT, 400.0), *TRAINED, Stay(Phase.CHECKPOINT, 700.0), *TRAINED]
    assert (
        verdicts(
            {rank: [*TRAINED, *slow] for rank in (0, 1)}, begin=Watch(learned=Learned(saved=400.0))
        )
        == []
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_goes_silent_is_named(rank: int) -> None:
    traces = {one: [*TRAINED, Stay(Phase.STEP, 60.0)] for one in (0, 1)}
    [(at, verdict)] = verdicts(
        traces,
        where={rank: "silent"},
        hidden=lambda one, at: one == rank and at > 20,
    )
    assert (verdict.rank, verdict.evidence) == (rank, Evidence.SILENT)
    assert "it has sent nothing for" in str(verdict)
    assert at <= 50.0


def test_a_rank_without_a_connection_is_not_waited_for() -> None:
    watch = Watch(limits=Limits(ceiling=10.0))
    for at in range(14):
        watch = watch.heard(watch.life, {0: beat_of(0, Phase.STEP, at)}, at)
        if at == 0:
            watch = watch.heard(watch.life, {1: beat_of(0, Phase.STEP, at)}, at)
            watch = watch.lost(watch.life, 1)
        watch, wish = watch.decided({})
        if wish is Order.COLLECT:
            watch = watch.told(watch.life, 0, REPORTS["waits"] or Report())
            watch, wish = watch.decided({})
            assert isinstance(wish, Verdict)
            assert wish.rank == 1
            return
    pytest.fail("there was no verdict")


def test_a_silent_rank_whose_last_beat_is_of_its_first_steps_is_judged_as_the_others_are() -> None:
    """It holds the interpreter lock, so that its beats ended before its last steps."""
    traces = {one: [*TRAINED, Stay(Phase.STEP, 60.0)] for one in (0, 1)}
    [(at, verdict)] = verdicts(
        traces, where={1: "silent"}, hidden=lambda one, at: one == 1 and at > 1
    )
    assert verdict.rank == 1
    assert at <= 50.0


def asked_world() -> Watch:
    """Two ranks that stand, of which rank 0 has reported."""
    watch = Watch(limits=Limits(floor=5.0, ceiling=5.0))
    for at in range(7):
        watch = watch.heard(watch.life, dict.fromkeys((0, 1), beat_of(9, Phase.STEP, at)), at)
    watch, wish = watch.decided({})
    assert wish is Order.COLLECT
    return watch.told(watch.life, 0, REPORTS["waits"] or Report())


def test_launchers_look_once_at_ranks_that_do_not_answer() -> None:
    watch, wishes = asked_world(), []
    for at in range(7, 12):
        watch = watch.heard(watch.life, dict.fromkeys((0, 1), beat_of(9, Phase.STEP, at)), at)
        silent, (watch, wish) = watch.silent, watch.decided({})
        wishes.append((silent, wish))
    assert wishes[0] == (frozenset({1}), Order.LOOK)
    assert [wish for _, wish in wishes[1:4]] == [None] * 3
    assert isinstance(wishes[4][1], Verdict)  # its patience has ended


def test_launchers_look_at_once_at_ranks_that_were_silent_before() -> None:
    """A stopped process will not answer: to wait for it would only delay the verdict."""
    watch = Watch(limits=Limits(floor=5.0, ceiling=5.0))
    for at in range(7):
        said = dict.fromkeys((0, 1) if at < 4 else (0,), beat_of(9, Phase.STEP, at))
        watch = watch.heard(watch.life, said, at)
    watch, wish = watch.decided({})
    assert wish is Order.COLLECT
    watch, wish = watch.told(watch.life, 0, REPORTS["waits"] or Report()).decided({})
    assert wish is Order.LOOK
    watch, wish = watch.told(watch.life, 1, Report(excuse="it is stopped")).decided({})
    assert isinstance(wish, Verdict)
    assert wish.rank == 1


def test_what_a_launcher_sees_decides_at_once() -> None:
    watch = asked_world()
    watch = watch.told(watch.life, 1, Report(excuse="it is stopped"))
    watch, wish = watch.decided({})
    assert isinstance(wish, Verdict)
    assert (wish.rank, wish.excuse) == (1, "it is stopped")


def test_a_world_that_ends_while_it_hangs_does_not_go_on() -> None:
    """The verdict stays, for the termination messages of pods that end because of it."""
    watch = asked_world()
    watch, _ = watch.told(watch.life, 1, Report()).decided({})
    assert watch.verdict is not None
    for rank in (0, 1):
        watch = watch.lost(watch.life, rank).left(watch.life, rank)
    assert watch.verdict is not None


def test_a_world_that_has_ended_well_after_all_went_on() -> None:
    watch = asked_world()
    watch, _ = watch.told(watch.life, 1, Report()).decided({})
    for rank in (0, 1):
        watch = watch.heard(watch.life, {rank: beat_of(10, Phase.DONE, 0.0)}, 8.0)
    assert watch.verdict is None


def test_a_compilation_has_the_ceiling() -> None:
    traces = {rank: [*TRAINED, Stay(Phase.STEP, 60.0), *TRAINED] for rank in (0, 1)}
    orders: list[float] = []
    assert verdicts(traces, where={1: "compiles"}, orders=orders) == []
    assert len(orders) == 1  # it is not asked again


def test_a_verdict_is_given_once_and_forgotten_when_the_world_moves() -> None:
    stall = [*TRAINED, Stay(Phase.STEP, 40.0, steps=1)]
    traces = {rank: [*stall, *TRAINED, Stay(Phase.STEP, 250.0)] for rank in (0, 1)}
    first, second = verdicts(traces, where={1: "works"})
    assert 30 <= first[0] <= 50
    assert second[0] >= 80 + 2 * 40  # it may stand twice as long as ever before


def test_what_belongs_to_another_life_changes_nothing() -> None:
    watch = Watch(life=Life(1, 2)).heard(Life(1, 2), {0: beat_of(3, Phase.STEP, 1.0)}, 5.0)
    for life in (Life(1, 1), Life(0, 2), Life(1, 3)):
        assert watch.heard(life, {0: beat_of(4, Phase.STEP, 0.0)}, 6.0) == watch
        assert watch.lost(life, 0) == watch
        assert watch.left(life, 0) == watch
        asked = dataclasses.replace(watch, asked=0.0)
        assert asked.told(life, 0, Report()) == asked


def test_a_rare_long_duration_counts() -> None:
    """A percentile would forget it."""
    durations = Durations()
    for seconds in [1.0] * 150 + [50.0] + [1.0] * 400:
        durations = durations.with_one(seconds)
    assert durations.limit(5.0) == 2 * 50.0


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_the_time_between_two_beats_is_not_that_of_each_step_between_them(seconds: float) -> None:
    lived = [*steps(round(30 / seconds), seconds), Stay(Phase.STEP, 60.0)]
    ((at, _),) = verdicts({0: lived, 1: lived}, begin=Watch(limits=Limits(floor=3.0)))
    assert 33.0 <= at <= 34.5  # the floor, and at most one beat of each rank


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_duration_is_checked(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        Durations().with_one(seconds)


def test_reports_that_nobody_asked_for_are_dropped() -> None:
    watch = Watch().told(Life(), 0, Report())
    assert watch.reports == {}


@given(
    st.lists(st.floats(0, 1e4), min_size=1, max_size=300),
    st.floats(2, 10),
)
def test_a_limit_is_above_every_duration(seconds: list[float], factor: float) -> None:
    durations = Durations()
    for one in seconds:
        durations = durations.with_one(one)
    assert durations.limit(factor) >= 2 * max(seconds)
    assert durations.limit(factor) <= factor * max(seconds)
    assert len(durations.last) <= 200


stays = st.builds(
    Stay,
    phase=st.sampled_from([Phase.DATA, Phase.STEP, Phase.EVALUATION, Phase.USER]),
    seconds=st.sampled_from([0.2, 0.9, 1.0, 3.0, 9.0]),
    steps=st.sampled_from([0, 1]),
)


@settings(max_examples=60)
@given(
    st.lists(stays, min_size=1, max_size=30),
    st.lists(stays, min_size=1, max_size=30),
    st.floats(0, 2.0),
)
def test_whoever_never_stands_as_long_as_the_floor_is_never_judged(
    zero: list[Stay], one: list[Stay], delay: float
) -> None:
    """Whatever the phases, and however late beats come: also if boundaries pass as beats do."""
    traces = {0: zero, 1: one}
    assert verdicts(traces, clock=lambda at: at + delay * (int(at) % 2)) == []


@settings(max_examples=60)
@given(
    st.lists(stays, max_size=20),
    st.sampled_from([Phase.STEP, Phase.DATA]),
    st.floats(0, 1.0),
)
def test_whoever_stands_is_judged(before: list[Stay], phase: Phase, delay: float) -> None:
    """At the latest after the longest limit that these traces can have."""
    lived = [*before, *TRAINED, Stay(phase, 120.0)]
    found = verdicts({0: lived, 1: lived}, clock=lambda at: at + delay * (int(at) % 2))
    stands_from = sum(stay.seconds for stay in lived[:-1])
    assert len(found) == 1
    assert stands_from + 9 <= found[0][0] <= stands_from + 60


@pytest.mark.parametrize(
    "change",
    [
        {"floor": 0},
        {"ceiling": 5.0},
        {"factor": float("nan")},
        {"first_steps": -1},
        {"save_floor": 0.0},
        {"save_factor": float("inf")},
    ],
    ids=str,
)
def test_limits_are_checked(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        dataclasses.replace(Limits(), **change)  # type: ignore[arg-type]
