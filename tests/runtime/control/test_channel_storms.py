"""Random schedules of all that can happen to a control channel: nothing ends in a deadlock.

`ACCELERATEDJOB_CHANNEL_STORMS=1000` asks for more than the few that are tried every time,
`ACCELERATEDJOB_CHANNEL_STORMS_FROM` for the first seed.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from runtime.control.agent import Agent
from runtime.control.server import Server
from tests.runtime.control.ranks import QUICK, Proxy, Training, coordinator

COUNT = int(os.environ.get("ACCELERATEDJOB_CHANNEL_STORMS", "12"))
FIRST = int(os.environ.get("ACCELERATEDJOB_CHANNEL_STORMS_FROM", "0"))
STEPS = 150
SECONDS = 120.0  # for a schedule on a machine that is busy; most end in one
HAPPENS = ("notice", "wish", "coordinator's notice", "death", "coordinator's death")
WEIGHTS = (6, 8, 3, 1, 1)


def happening(seed: int, size: int, server: Server) -> Callable[[int, int, Agent], None]:
    """Return what happens at each step of each rank: a few things, at random places."""
    chance = random.Random(seed)
    planned = {
        (chance.randrange(size), chance.randrange(1, STEPS)): (what, chance.choice([0.1, 1, 30]))
        for what in chance.choices(HAPPENS, WEIGHTS, k=chance.randrange(1, 6))
    }

    def on_step(rank: int, step: int, agent: Agent) -> None:
        what, seconds = planned.get((rank, step), ("", 0.0))
        if what == "notice":
            agent.notice(time.monotonic() + seconds, "test")
        elif what == "wish":
            agent.wish_to_save()
        elif what == "coordinator's notice":
            server.notice(seconds, "test")
        elif what == "coordinator's death":
            server.close()
        elif what == "death":
            raise Died

    return on_step


class Died(Exception):
    """A rank ends in the middle of a step."""


@pytest.mark.timeout(300 + COUNT * 10)
def test_no_schedule_ends_in_a_deadlock_and_all_ranks_act_at_the_same_steps() -> None:
    seen: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + COUNT):
        seen.update(_stormed(seed))
    assert COUNT < 100 or {"stop", "save", "leave"} <= set(seen), seen


def _stormed(seed: int) -> list[str]:
    """Run a schedule; return what was done."""
    chance = random.Random(seed)
    size, slow = chance.choice([2, 3, 4]), chance.choice([0.001, 0.004])
    with coordinator(size, QUICK) as server:
        cuts, garbage = chance.choice([(0.0, 0.0), (0.02, 0.0), (0.05, 0.03), (0.2, 0.1)])
        proxy = Proxy(server, seed, cuts=cuts, garbage=garbage)
        training = Training(
            size,
            STEPS,
            server,
            proxy.address,
            lambda _: chance.random() * slow,
            happening(seed, size, server),
            QUICK,
            dies=Died,
        )
        training.run(SECONDS)
        proxy.close()
    _agreed(seed, training)
    return [one.action for acted in training.acted.values() for one in acted]


def _agreed(seed: int, training: Training) -> None:
    """All have done the same at the same steps, as far as each has come; a stop is the end."""
    said = f"seed {seed}: {training.acted} {training.reached}"
    done = [[one for one in acted if one.action != "lost"] for acted in training.acted.values()]
    longest = max(done, key=len)
    assert all(one == longest[: len(one)] for one in done), said
    ends = {one.step for acted in done for one in acted if one.action in ("stop", "leave")}
    assert all(step <= min(ends) for step in training.reached.values() if ends), said
