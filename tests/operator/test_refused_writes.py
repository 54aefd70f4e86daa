"""A write that the API server refuses for as long as one looks is tried seldom, not in a loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import Ref
from acceleratedjob.errors import Refused
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import Clock, Fated, Operator

Deed = Callable[[LocalCluster], Awaitable[None]]
REF = Ref(names.KIND, "research", "digits")


class Forbidding(Fated):
    """A cluster that refuses what a test says, and counts it."""

    def __init__(self, store: LocalCluster, job: Ref) -> None:
        super().__init__(store, job)
        self.tries = 0
        self.forbidden = ""
        self.final = False

    def forbid(self, write: str, *, final: bool = False) -> None:
        self.forbidden, self.final = write, final

    def _check(self, write: str) -> None:
        if write == self.forbidden:
            self.tries += 1
            raise Refused(f"may not {write}", final=self.final)

    async def create(self, manifest: Manifest) -> Any:
        self._check(f"create {manifest['kind']}")
        return await super().create(manifest)

    async def delete(self, ref: Ref, **options: Any) -> Any:
        self._check(f"delete {ref.kind}")
        return await super().delete(ref, **options)


async def without_service(store: LocalCluster) -> None:
    (service,) = store.objects("Service")
    await store.delete(Ref.of(service), uid=service["metadata"]["uid"])


async def suspended(store: LocalCluster) -> None:
    store.change(REF, lambda found: found["spec"].update(suspend=True))


class World:
    """A job that has its Service and pods, and an operator that hears of all."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job()))
        self.cluster = Forbidding(self.store, REF)
        self.operator = Operator(self.clock, self.cluster)
        self.pass_time(0)
        assert len(self.store.objects("Pod")) == 2

    def pass_time(self, seconds: float) -> None:
        self.clock.elapsed += seconds
        for _ in range(5):
            self.operator.hear_all()
            self.clock.tick()

    def close(self) -> None:
        self.operator.close()
        self.clock.run_until_complete(asyncio.sleep(0))
        self.clock.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("deed", "write", "final", "left"),
    [
        pytest.param(without_service, "create Service", False, 2, id="no Service for now"),
        pytest.param(suspended, "delete Pod", False, 0, id="pods may not go for now"),
        pytest.param(suspended, "delete Pod", True, 0, id="a policy keeps pods, and is lifted"),
    ],
)
def test_it_is_tried_later_and_later_until_it_may_be(
    world: World, deed: Deed, write: str, final: bool, left: int
) -> None:
    world.cluster.forbid(write, final=final)
    world.clock.run_until_complete(deed(world.store))
    for _ in range(6):
        world.pass_time(10)
    assert 1 <= world.cluster.tries <= 12  # in a minute, of one object or two
    assert world.store.objects(names.KIND)[0]["status"]["phase"] != "Failed"
    world.cluster.forbid("")
    world.pass_time(70)
    assert len(world.store.objects("Service")) == 1
    pods = [pod["metadata"] for pod in world.store.objects("Pod")]
    assert sum("deletionTimestamp" not in pod for pod in pods) == left


def test_a_status_that_another_write_has_overtaken_is_written_when_the_news_comes(
    world: World,
) -> None:
    world.cluster.fates.append("edited")
    world.clock.run_until_complete(suspended(world.store))
    world.pass_time(0)
    (job,) = world.store.objects(names.KIND)
    assert (job["status"]["phase"], job["metadata"]["labels"]) == ("Suspended", {"a": "edited"})
    assert not world.cluster.fates


def test_the_log_says_when_a_refused_write_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.clock.run_until_complete(without_service(world.store))
    world.cluster.forbid("create Service")
    for _ in range(20):
        world.pass_time(1)
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert said == [f"retry in {n} s: may not create Service" for n in (1, 2, 4, 8, 16)]
