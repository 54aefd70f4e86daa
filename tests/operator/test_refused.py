"""What the API server, or the operator itself, does not take."""

import asyncio
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Pending, Status
from acceleratedjob.api.times import parse_time
from acceleratedjob.cluster import Ref, Rendered
from acceleratedjob.errors import (
    ClusterError,
    NoAnswer,
    NotFound,
    NotLeading,
    Refused,
    Unavailable,
)
from acceleratedjob.local.cluster import LocalCluster
from tests.attempts import pod_of
from tests.operator.builders import job
from tests.operator.clockwork import Clock, Fated, Operator, unhurried_now
from tests.operator.lives import (
    REF,
    background,
    object_names,
    operate,
    run,
    settle,
    status_of,
    until,
)
from tests.operator.node import FOREVER, Node


def refused(store: LocalCluster) -> list[Pending]:
    """What the status tells of a refusal; no scheduler looks at the pods here."""
    return [entry for entry in status_of(store).pending if entry.reason == "Refused"]


class Quota(LocalCluster):
    """Takes so many pods and then refuses, as a quota or a policy does."""

    def __init__(self, pods: int, *, final: bool) -> None:
        super().__init__(unhurried_now)
        self.left = pods
        self.final = final

    async def create(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "Pod":
            if self.left == 0:
                message = "exceeded quota"
                raise Refused(message, final=self.final)
            self.left -= 1
        return await super().create(manifest)


def test_a_quota_is_told_and_waited_for() -> None:
    async def scenario() -> Status:
        store = Quota(1, final=False)
        await store.create(job())
        async with background(
            Node(store, lambda _attempt, _index: FOREVER).run(), operate(store, store)
        ):
            waiting = await until(store, lambda status: bool(status.pending))
            assert (waiting.phase, waiting.pending[0].message) == ("Pending", "exceeded quota")
            store.left = 9
            return await until(store, lambda status: status.phase == "Running")

    assert run(scenario()).pending == ()


def test_a_pod_that_will_never_be_taken_fails_the_job_and_leaves_nothing() -> None:
    async def scenario() -> LocalCluster:
        store = Quota(1, final=True)
        await store.create(job())
        async with background(
            Node(store, lambda _attempt, _index: FOREVER).run(), operate(store, store)
        ):
            await until(store, lambda status: status.finished)
            await settle(store)
        return store

    store = run(scenario())
    assert (status_of(store).phase, object_names(store, "Pod"), object_names(store, "Service")) == (
        "Failed",
        [],
        [],
    )


def test_a_pod_of_the_same_name_that_is_not_ours_is_left_alone() -> None:
    async def scenario() -> Status:
        store = LocalCluster(unhurried_now)
        other = {
            "kind": "Service",
            "metadata": {"name": "digits", "namespace": "research"},
            "spec": {},
        }
        await store.create(other)
        await store.create(job())
        async with background(operate(store, store)):
            return await until(store, lambda status: bool(status.pending))

    (pending,) = run(scenario()).pending
    assert "Service research/digits exists and is not this job's" in pending.message


def test_a_job_that_cannot_be_run_says_why() -> None:
    async def scenario() -> Status:
        store = LocalCluster(unhurried_now)
        await store.create(job({"env": [{"name": "RANK", "value": "0"}]}))
        async with background(operate(store, store)):
            return await until(store, lambda status: status.finished)

    told = run(scenario()).condition(names.ConditionType.FAILED)
    assert told is not None
    assert (
        told.message == "spec.template.spec.containers[0].env[0].name: RANK is set by the operator"
    )


@pytest.mark.parametrize(
    ("replicas", "tries"),
    [
        pytest.param(5, 5, id="the last is refused"),
        pytest.param(20, 7, id="some batch is refused"),
        pytest.param(1000, 7, id="no more than that batch is tried of a thousand"),
    ],
)
def test_a_quota_is_met_by_few_requests_and_tried_again_after_a_second(
    replicas: int, tries: int
) -> None:
    clock = Clock()
    store = Counting(4, clock)
    clock.run_until_complete(store.create(job(replicas=replicas)))
    operator = Operator(clock, Fated(store, REF))
    for _ in range(3):
        operator.hear_all()
        clock.tick(50)
    assert store.tries == tries
    assert [next_try(operator, store) for _ in range(4)] == [1, 2, 4, 8]
    operator.close()
    clock.close()


class Counting(Quota):
    """A quota that counts the pods that are sent to it."""

    def __init__(self, pods: int, clock: Clock) -> None:
        super().__init__(pods, final=False)
        self._now = clock.now
        self.tries = 0

    async def create(self, manifest: Manifest) -> Manifest:
        self.tries += manifest["kind"] == "Pod"
        return await super().create(manifest)


def next_try(operator: Operator, store: Counting) -> float:
    """Seconds until pods are sent again."""
    begin, tries = operator.clock.elapsed, store.tries
    while store.tries == tries:
        operator.clock.elapsed += 0.5
        operator.clock.tick(60)
        operator.hear_all()
    return operator.clock.elapsed - begin


WEBHOOK = (
    'Internal error occurred: failed calling webhook "inject.mesh.example": Post '
    '"https://127.0.0.1:9/inject": dial tcp 127.0.0.1:9: connect: connection refused (500)'
)


class Broken(Fated):
    """A cluster that answers some writes with an error, until it is mended."""

    def __init__(self, store: LocalCluster, write: str, error: ClusterError) -> None:
        super().__init__(store, REF)
        self.write, self.error = write, error
        self.is_broken = True

    def _check(self, write: str) -> None:
        if self.is_broken and write == self.write:
            raise self.error

    async def create(self, manifest: Manifest) -> Any:
        self._check(f"create {manifest['kind']}")
        return await super().create(manifest)

    async def create_pod(self, pod: Rendered) -> Any:
        self._check("create Pod")
        return await super().create_pod(pod)

    async def write_status(self, ref: Ref, status: Manifest, **options: Any) -> Any:
        self._check("write status")
        return await super().write_status(ref, status, **options)


class World:
    """A job in a cluster that is broken, and an operator whose time a test decides."""

    def __init__(self, write: str, error: ClusterError) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job()))
        self.cluster = Broken(self.store, write, error)
        self.operator = Operator(self.clock, self.cluster)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.elapsed += 1
            self.operator.hear_all()
            self.clock.tick()

    def told(self) -> list[str]:
        """What events say of refusals."""
        events = self.store.objects("Event")
        return [event["message"] for event in events if event["reason"] == "Refused"]

    def close(self) -> None:
        self.operator.close()
        self.clock.run_until_complete(asyncio.sleep(0))
        self.clock.close()


@pytest.mark.parametrize("write", ["create Pod", "create Service"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(Unavailable(WEBHOOK), WEBHOOK, id="a webhook that does not answer"),
        pytest.param(NotFound('namespaces "a" not found (404)'), "(404)", id="what is not there"),
        pytest.param(Refused("no (403)", final=False), "no (403)", id="a refusal"),
    ],
)
def test_whatever_the_api_server_says_is_told_with_the_next_try(
    write: str, error: ClusterError, told: str
) -> None:
    world = World(write, error)
    world.pass_time(25)  # counters are written within 5 s: the try of 15 s is told
    (entry,) = refused(world.store)
    assert entry.reason == "Refused"
    assert told in entry.message
    assert entry.next_try is not None
    assert parse_time(entry.next_try) > world.clock.now()
    assert world.told() == [entry.message]
    world.cluster.is_broken = False
    world.pass_time(60)
    assert refused(world.store) == []
    assert len(object_names(world.store, "Pod")) == 2
    world.close()


def test_a_status_that_cannot_be_written_is_told_by_an_event() -> None:
    world = World("write status", Refused("etcdserver: request is too large", final=True))
    world.pass_time(20)
    assert world.told() == ["etcdserver: request is too large"]
    world.close()


@pytest.mark.parametrize("error", [NoAnswer("gone", silent=True), NotLeading("no lease")])
def test_what_no_api_server_has_said_is_not_told_of_the_job(error: ClusterError) -> None:
    """It is said once for all jobs, in the log."""
    world = World("create Pod", error)
    world.pass_time(20)
    assert (refused(world.store), world.told()) == ([], [])
    world.close()


def test_counters_are_written_in_time_while_creations_fail_again_and_again() -> None:
    world = World("create Pod", NoAnswer("connection lost"))
    world.pass_time(40)  # the next try is at 63 s
    spec = JobSpec.from_manifest(world.store.objects(names.KIND)[0])
    world.clock.run_until_complete(world.store.create(pod_of(spec, attempt=0, index=0)))
    world.pass_time(8)
    assert status_of(world.store).replicas == 1
    world.close()
