"""When the launchers of all pods begin another life: every order of what they say."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from runtime.control import lives
from runtime.control.lives import Lives, Order, Sent, Standing
from runtime.control.messages import Begin, Clear, Cleared, Fell, GiveUp, Retire

KILLED = Fell(number=0, rank=1, status=-9)
CLEAR = Clear(number=0, why="rank 1 got signal 9", at_once=True)


def names() -> Iterator[str]:
    return (f"life {number}" for number in itertools.count(1))


def running(pods: int = 2, budget: int = 3, number: int = 0) -> Lives:
    """What the coordinator knows when all launchers are connected."""
    state = Lives(pods=pods, budget=budget, number=number, life="life 0", name=names().__next__)
    for replica in range(pods):
        state, _ = lives.attend(state, replica)
    return state


def fallen(
    state: Lives, failure: Fell = KILLED, *, has_stepped: bool = True, stops: bool = False
) -> tuple[Lives, list[Order]]:
    state, sent = lives.fall(state, failure, has_stepped=has_stepped, stops=stops)
    return state, [order for _, order in sent]


def test_a_life_begins_when_nothing_of_the_old_one_runs_anywhere() -> None:
    state, sent = lives.fall(running(), KILLED, has_stepped=True, stops=False)
    assert sent == tuple((i, CLEAR) for i in range(2))
    state, sent = lives.clear(state, 1, Cleared(number=0))
    assert sent == ()
    state, sent = lives.clear(state, 0, Cleared(number=0))
    assert sent == tuple((i, Begin(number=1, life="life 1")) for i in range(2))
    assert (state.number, state.standing, state.before) == (1, Standing.RUNNING, KILLED)


@pytest.mark.parametrize(
    ("state", "failure", "options", "why"),
    [
        pytest.param(running(budget=0), KILLED, {}, "restarted 0 times", id="no budget"),
        pytest.param(
            running(budget=2, number=2),
            replace(KILLED, number=2),
            {},
            "restarted 2 times",
            id="the budget is used up",
        ),
        pytest.param(
            lives.leave(running(), 1)[0], KILLED, {}, "[1] are not connected", id="a lost launcher"
        ),
        pytest.param(running(), KILLED, {"stops": True}, "asked to stop", id="a stop"),
        pytest.param(
            running(), replace(KILLED, why_not="no memory"), {}, "no memory", id="the pod refuses"
        ),
        pytest.param(
            running(),
            replace(KILLED, status=1),
            {"has_stepped": False},
            "no step",
            id="an error before the first step",
        ),
        pytest.param(
            replace(
                running(number=1), before=Fell(number=0, rank=0, status=1, exception="E", at_step=7)
            ),
            Fell(number=1, rank=1, status=1, exception="E", at_step=7),
            {},
            "same error",
            id="the same error at the same step",
        ),
    ],
)
def test_no_life_follows(state: Lives, failure: Fell, options: dict[str, bool], why: str) -> None:
    state, orders = fallen(state, failure, **options)
    assert state.standing is Standing.OVER
    assert {type(order) for order in orders} == {GiveUp}
    assert all(why in order.why for order in orders if isinstance(order, GiveUp))
    assert fallen(state, failure)[1] == orders  # whoever asks again hears the same


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(replace(KILLED, status=1, exception="E", at_step=8), id="at another step"),
        pytest.param(replace(KILLED, status=1, exception="F", at_step=7), id="another error"),
        pytest.param(replace(KILLED, status=1), id="an error that nothing is known of"),
        pytest.param(KILLED, id="a signal"),
    ],
)
def test_another_failure_than_the_last_one_is_followed_by_a_life(failure: Fell) -> None:
    before = Fell(number=0, rank=0, status=1, exception="E", at_step=7)
    state, orders = fallen(replace(running(number=1), before=before), replace(failure, number=1))
    assert state.standing is Standing.CLEARING
    assert {type(order) for order in orders} == {Clear}


def test_a_kill_at_a_step_that_nobody_knows_is_like_no_other() -> None:
    killed = replace(KILLED, exception="killed by SIGKILL")
    state, _ = fallen(replace(running(number=1), before=killed), replace(killed, number=1))
    assert state.standing is Standing.CLEARING


def test_a_kill_before_the_first_step_is_followed_by_a_life() -> None:
    state, _ = fallen(running(), has_stepped=False)
    assert state.standing is Standing.CLEARING


def test_a_launcher_that_connects_again_hears_what_it_has_missed() -> None:
    state, _ = fallen(running())
    state, sent = lives.attend(lives.leave(state, 1)[0], 1)
    assert sent == ((1, CLEAR),)
    for replica in (0, 1):
        state, _ = lives.clear(state, replica, Cleared(number=0))
    assert lives.attend(state, 1)[1] == ((1, Begin(number=1, life="life 1")),)
    state, _ = lives.expire(state)
    assert isinstance(lives.attend(state, 1)[1][0][1], GiveUp)


def test_nobody_waits_for_ever_for_a_pod_whose_processes_do_not_end() -> None:
    state, _ = fallen(running())
    state, _ = lives.clear(state, 0, Cleared(number=0))
    state, sent = lives.expire(state)
    assert [order for _, order in sent] == [
        GiveUp(number=0, why="the processes of replicas [1] have not ended in 30 s")
    ] * 2
    assert lives.clear(state, 1, Cleared(number=0)) == (state, ())


@pytest.mark.parametrize("status", [143, -15])
@pytest.mark.parametrize("has_stepped", [False, True])
def test_processes_that_stop_because_one_was_asked_to_are_not_killed(
    status: int, *, has_stepped: bool
) -> None:
    stopped = replace(KILLED, status=status)
    state, orders = fallen(running(), stopped, has_stepped=has_stepped)
    assert state.standing is Standing.CLEARING
    assert orders == [Clear(number=0, why="rank 1 was asked to stop", at_once=False)] * 2


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(running(), id="while it runs"),
        pytest.param(fallen(running())[0], id="while the processes are ended"),
        pytest.param(lives.expire(running())[0], id="when no other life follows anyway"),
    ],
)
def test_no_life_follows_when_a_pod_was_asked_to_stop(state: Lives) -> None:
    state, sent = lives.retire(state, 1)
    why = "replica 1 was asked to stop, or has ended"
    assert sent == tuple((i, GiveUp(number=0, why=why)) for i in range(2))
    assert fallen(state)[1] == [order for _, order in sent]


@dataclass(frozen=True)
class Launcher:
    """A launcher: which life it runs, whether a process has failed, and whether any runs.

    One that was asked to stop, or whose processes have ended well, leaves when no process runs;
    its processes end by themselves.
    """

    number: int = 0
    runs: bool = True
    has_failed: bool = False
    is_over: bool = False
    is_noticed: bool = False


@dataclass(frozen=True)
class World:
    """The coordinator, the launchers, and what is on the way; each way keeps its order."""

    lives: Lives
    launchers: tuple[Launcher, ...]
    up: tuple[tuple[Fell | Cleared | Retire, ...], ...]
    down: tuple[tuple[Order, ...], ...]
    faults: int = field(default=2)

    def say(self, replica: int, message: Fell | Cleared | Retire) -> "World":
        ways = enumerate(self.up)
        return replace(self, up=tuple((*w, message) if i == replica else w for i, w in ways))

    def launcher(self, replica: int, **change: object) -> "World":
        found = list(self.launchers)
        found[replica] = replace(found[replica], **change)  # type: ignore[arg-type]
        return replace(self, launchers=tuple(found))

    def step(self, step: tuple[Lives, Sent]) -> "World":
        state, sent = step
        down = [list(way) for way in self.down]
        for replica, order in sent:
            down[replica].append(order)
        return replace(self, lives=state, down=tuple(map(tuple, down)))


def nexts(world: World) -> Iterator[World]:
    """All that may happen next."""
    for replica, one in enumerate(world.launchers):
        if world.faults and not one.is_noticed:
            noticed = world.launcher(replica, is_noticed=True, is_over=True).say(replica, Retire())
            yield replace(noticed, faults=world.faults - 1)
        if world.faults and one.runs and not one.has_failed and not one.is_over:
            failed = Fell(number=one.number, rank=replica, status=-9)
            fallen_one = world.launcher(replica, has_failed=True).say(replica, failed)
            yield replace(fallen_one, faults=world.faults - 1)
        if world.faults:  # the connection is cut, with all that is on the way, and comes again
            yield replace(cut(world, replica), faults=world.faults - 1)
        if world.up[replica]:
            yield told(world, replica)
        if world.down[replica]:
            yield ordered(world, replica)


def cut(world: World, replica: int) -> World:
    one = world.launchers[replica]
    up = [() if i == replica else way for i, way in enumerate(world.up)]
    down = [() if i == replica else way for i, way in enumerate(world.down)]
    world = replace(world, up=tuple(up), down=tuple(down))
    world = world.step(lives.attend(lives.leave(world.lives, replica)[0], replica))
    if one.is_noticed:
        return world.say(replica, Retire())
    if not one.runs:
        return world.say(replica, Cleared(number=one.number))
    if one.has_failed:
        return world.say(replica, Fell(number=one.number, rank=replica, status=-9))
    return world


def told(world: World, replica: int) -> World:
    message, *rest = world.up[replica]
    up = [tuple(rest) if i == replica else way for i, way in enumerate(world.up)]
    world = replace(world, up=tuple(up))
    if isinstance(message, Cleared):
        return world.step(lives.clear(world.lives, replica, message))
    if isinstance(message, Retire):
        return world.step(lives.retire(world.lives, replica))
    return world.step(lives.fall(world.lives, message, has_stepped=True, stops=False))


def ordered(world: World, replica: int) -> World:
    order, *rest = world.down[replica]
    down = [tuple(rest) if i == replica else way for i, way in enumerate(world.down)]
    world, one = replace(world, down=tuple(down)), world.launchers[replica]
    if one.is_noticed:
        return world
    if isinstance(order, Clear) and order.number == one.number and one.runs:
        cleared = world.launcher(replica, runs=False)
        return cleared.say(replica, Cleared(number=one.number))
    if isinstance(order, Begin) and order.number == one.number + 1:
        assert not any(other.runs and other.number < order.number for other in world.launchers)
        return world.launcher(replica, number=order.number, runs=True, has_failed=False)
    if isinstance(order, GiveUp) and order.number == one.number:
        return world.launcher(replica, is_over=True)
    return world


@pytest.mark.parametrize("pods", [2, 3])
def test_no_process_meets_one_of_an_older_life_and_nobody_waits_for_ever(pods: int) -> None:
    """In every order of two faults (failures, cuts, requests to stop) and of all that is said."""
    own = replace(running(pods, budget=1), name=lambda: "next")
    first = World(own, (Launcher(),) * pods, ((),) * pods, ((),) * pods)
    seen, left, ends = {first}, [first], 0
    while left:
        world = left.pop()
        found = list(nexts(world))
        if not any(world.up) and not any(world.down):
            ends += 1
            failed = [one for one in world.launchers if one.has_failed and not one.is_over]
            assert not failed, world
            assert all(one.runs or one.is_over for one in world.launchers), world
            is_noticed = any(one.is_noticed for one in world.launchers)
            assert not is_noticed or world.lives.standing is Standing.OVER, world
        for one in found:
            if one not in seen:
                seen.add(one)
                left.append(one)
    assert ends > 10
