"""A list that was read at one moment of an attempt's creation, and is taken at a later one."""

import asyncio
from collections.abc import Iterator

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import WATCHED, Ref
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import Clock, Fated, Operator

REF = Ref(names.KIND, "research", "digits")
CREATION = 14  # turns of the loop, in which all pods are created
DELAYS = (1, 4, 12, CREATION)  # between the reading of a list and its arrival


class World:
    """A job of four replicas, and an operator that has just heard of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job(replicas=4, network={"isolate": True})))
        self.operator = Operator(self.clock, Fated(self.store, REF))

    def pass_time(self, seconds: float) -> None:
        self.clock.elapsed += seconds
        for _ in range(4):
            self.operator.hear_all()
            self.clock.tick()

    def job(self) -> Manifest:
        (found,) = self.store.objects(names.KIND)
        return found

    def close(self) -> None:
        self.operator.close()
        self.clock.run_until_complete(asyncio.sleep(0))
        self.clock.close()


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for each in made:
        each.close()


@pytest.mark.parametrize("heard", [False, True], ids=["no event is heard", "events are heard"])
@pytest.mark.parametrize("delay", DELAYS)
def test_a_list_ends_no_attempt_whose_pods_are_being_created(
    worlds: list[World], delay: int, heard: bool
) -> None:
    """As a relist does after 410, and the one at a takeover: its answer is as of its reading."""
    for moment in range(CREATION):
        world = World()
        worlds.append(world)
        world.clock.tick(moment)
        lists = {kind: world.store.snapshot(kind) for kind in (*WATCHED, names.KIND)}
        world.clock.tick(delay)
        for kind, listed in lists.items():
            if heard:
                world.operator.hear(kind)
            world.operator.controller.take(kind, listed)
        world.pass_time(1)
        world.pass_time(31)
        found = sorted(pod["metadata"]["name"] for pod in world.store.objects("Pod"))
        assert found == [f"digits-0-{index}" for index in range(4)], moment
        status = world.job()["status"]
        assert (status["attempt"], status.get("failures", [])) == (0, []), moment
        assert len(world.operator.controller.cache.pods(world.job()["metadata"]["uid"])) == 4
