"""Writes that fail and operators that are killed: a job's life is as if nothing had been."""

import asyncio
import random

import pytest

from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import unhurried_now
from tests.operator.lives import (
    AT_ONCE,
    REF,
    background,
    live,
    object_names,
    operate,
    run,
    settle,
    status_of,
    until,
)
from tests.operator.node import FOREVER, Node, faulty


@pytest.mark.parametrize("after", [False, True], ids=["never done", "done, but unanswered"])
def test_every_write_may_fail_once(after: bool) -> None:
    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt else 1 if index == 2 else FOREVER

    cluster = faulty(LocalCluster(unhurried_now), after=after)
    store = run(live(job(replicas=4, failurePolicy=AT_ONCE), script, cluster))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 1)
    assert object_names(store, "Pod") == [f"digits-1-{index}" for index in range(4)]
    assert object_names(store, "Service") == ["digits"]


@pytest.mark.parametrize("seed", range(25))
def test_an_operator_killed_at_any_moment_loses_and_doubles_nothing(seed: int) -> None:
    """The operator is cancelled after a random number of steps of the loop, again and again."""
    chance = random.Random(seed)

    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt == 2 else 1 if index == attempt else FOREVER

    async def scenario() -> LocalCluster:
        store = LocalCluster(unhurried_now)
        await store.create(job(replicas=6, failurePolicy=AT_ONCE))
        async with background(Node(store, script).run()):
            for _ in range(12):
                async with background(operate(store, store)):
                    for _ in range(chance.randrange(60)):
                        await asyncio.sleep(0)
            async with background(operate(store, store)):
                await until(store, lambda status: status.finished)
                await settle(store)
        return store

    store = run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 2, 2)
    assert object_names(store, "Pod") == [f"digits-2-{index}" for index in range(6)]
    assert object_names(store, "Service") == ["digits"]


@pytest.mark.parametrize("seed", range(15))
def test_an_operator_killed_while_a_job_is_scaled_leaves_one_whole_attempt(seed: int) -> None:
    """The job is scaled between two lives of the operator, and sometimes suspended as well."""
    chance = random.Random(seed)

    async def scenario() -> LocalCluster:
        store = LocalCluster(unhurried_now)
        await store.create(job(elastic={"maxReplicas": 6}, network={"isolate": True}))
        async with background(Node(store, lambda _attempt, _index: FOREVER).run()):
            for _ in range(10):
                wish = {"replicas": chance.randint(1, 6), "suspend": chance.random() < 0.2}
                store.change(REF, lambda found, wish=wish: found["spec"].update(wish))  # type: ignore[misc]
                async with background(operate(store, store)):
                    for _ in range(chance.randrange(80)):
                        await asyncio.sleep(0)
            store.change(REF, lambda found: found["spec"].update(replicas=4, suspend=False))
            async with background(operate(store, store)):
                await until(store, lambda status: status.size == 4 and status.phase == "Running")
                await settle(store)
        return store

    store = run(scenario())
    status = status_of(store)
    assert (status.ready_ratio, status.wanted, status.restarts) == ("4/4", 4, 0)
    assert object_names(store, "Pod") == [f"digits-{status.attempt}-{index}" for index in range(4)]
    assert object_names(store, "NetworkPolicy") == ["digits"]
    envs = [one["spec"]["containers"][0]["env"] for one in store.objects("Pod")]
    assert {e["value"] for env in envs for e in env if e["name"] == "WORLD_SIZE"} == {"4"}
