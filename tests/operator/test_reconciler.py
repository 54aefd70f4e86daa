import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from acceleratedjob import api
from acceleratedjob.api import ConditionType, Manifest
from acceleratedjob.cluster import Changed, Cluster, Ref
from acceleratedjob.errors import Refused
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.reconciler import Reconciler
from acceleratedjob.status import Status
from tests.operator.builders import job
from tests.operator.node import FOREVER, Node, Script, faulty

AT_ONCE = {"backoff": {"initialSeconds": 0}}
REF = Ref(api.KIND, "research", "digits")
SECONDS = 20


@contextlib.asynccontextmanager
async def background(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in work]  # type: ignore[call-overload]  # coroutines
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def operate(store: LocalCluster, cluster: Cluster) -> None:
    """An operator's whole life: it begins from what is in the cluster, and knows nothing else."""
    reconciler = Reconciler(cluster, retry_seconds=0.001)
    async with background(reconciler.run()):
        for found in store.objects(api.KIND):
            reconciler.see(found)
        async for change in store.watch(api.KIND):
            if isinstance(change, Changed):
                reconciler.see(change.object)


async def until(store: LocalCluster, holds: Callable[[Status], bool]) -> Status:
    """Wait for a status."""
    async with asyncio.timeout(SECONDS):
        async for _ in store.watch(api.KIND):
            status = Status.from_manifest(await store.read(REF))
            if holds(status):
                return status
    raise AssertionError


async def live(
    manifest: Manifest,
    script: Script,
    cluster: Cluster | None = None,
    on: LocalCluster | None = None,
) -> LocalCluster:
    """Run a job to its end and let the operator clean up after it."""
    store = cluster.cluster if cluster else on or LocalCluster()  # type: ignore[attr-defined]  # Faulty
    await store.create(manifest)
    async with background(Node(store, script).run(), operate(store, cluster or store)):
        await until(store, lambda status: status.finished)
        await settle(store)
    return store


async def settle(store: LocalCluster) -> None:
    """Wait until nothing has changed for a while: all that is to be done is done."""
    events = store.watch("Pod")
    await anext(events)
    quiet = asyncio.ensure_future(anext(events))
    while (await asyncio.wait({quiet}, timeout=0.2))[0]:
        quiet = asyncio.ensure_future(anext(events))
    quiet.cancel()


def names(store: LocalCluster, kind: str) -> list[str]:
    return sorted(one["metadata"]["name"] for one in store.objects(kind))


def status_of(store: LocalCluster) -> Status:
    return Status.from_manifest(store.objects(api.KIND)[0])


def test_a_job_runs_and_succeeds() -> None:
    store = asyncio.run(live(job(replicas=3), lambda _attempt, _index: 0))
    status = status_of(store)
    assert (status.phase, status.succeeded, status.restarts) == ("Succeeded", 3, 0)
    assert names(store, "Pod") == ["digits-0-0", "digits-0-1", "digits-0-2"]
    assert names(store, "Service") == ["digits"]
    assert [one["reason"] for one in store.objects("Event")] == ["Succeeded"]


def test_one_failed_replica_restarts_all_of_them() -> None:
    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt else 1 if index == 1 else FOREVER

    store = asyncio.run(live(job(failurePolicy=AT_ONCE), script))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 1)
    assert [(f.attempt, f.replica, f.exit_code) for f in status.failures] == [(0, 1, 1)]
    assert names(store, "Pod") == ["digits-1-0", "digits-1-1"]


def test_restarts_end_at_the_limit_and_no_survivor_stays() -> None:
    def script(_attempt: int, index: int) -> int | None:
        return 7 if index == 1 else FOREVER

    manifest = job(failurePolicy=AT_ONCE | {"maxRestarts": 2})
    store = asyncio.run(live(manifest, script))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Failed", 2, 2)
    assert names(store, "Pod") == ["digits-2-1"]  # the failed one, for its log
    assert [f.exit_code for f in status.failures] == [7, 7, 7]


def test_a_suspended_job_has_no_pods_and_goes_on_when_resumed() -> None:
    async def scenario() -> LocalCluster:
        store = LocalCluster()
        await store.create(job())
        finish = False
        node = Node(store, lambda _attempt, _index: 0 if finish else FOREVER)
        async with background(node.run(), operate(store, store)):
            await until(store, lambda status: status.phase == "Running")
            store.change(REF, lambda found: found["spec"].update(suspend=True))
            await until(store, lambda status: status.holds(ConditionType.SUSPENDED))
            await settle(store)
            assert names(store, "Pod") == []
            finish = True
            store.change(REF, lambda found: found["spec"].update(suspend=False))
            await until(store, lambda status: status.finished)
        return store

    store = asyncio.run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 0)
    assert [one["reason"] for one in store.objects("Event")] == [
        "Suspended",
        "Resumed",
        "Succeeded",
    ]


def test_a_scaled_job_begins_anew_in_its_new_size() -> None:
    async def scenario() -> LocalCluster:
        store = LocalCluster()
        await store.create(job(elastic={"maxReplicas": 3}))
        finish = False
        node = Node(store, lambda _attempt, _index: 0 if finish else FOREVER)
        async with background(node.run(), operate(store, store)):
            await until(store, lambda status: status.phase == "Running")
            store.change(REF, lambda found: found["spec"].update(replicas=3))
            await until(store, lambda status: status.attempt == 1 and status.phase == "Running")
            finish = True
            for one in store.objects("Pod"):  # the script is asked again
                store.change(Ref.of(one), lambda _pod: None)
            await until(store, lambda status: status.finished)
        return store

    store = asyncio.run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.resizes, status.restarts) == ("Succeeded", 1, 1, 0)
    envs = [one["spec"]["containers"][0]["env"] for one in store.objects("Pod")]
    sizes = {entry["value"] for env in envs for entry in env if entry["name"] == "WORLD_SIZE"}
    assert (len(envs), sizes) == (3, {"3"})


@pytest.mark.parametrize("after", [False, True], ids=["never done", "done, but unanswered"])
def test_every_write_may_fail_once(after: bool) -> None:
    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt else 1 if index == 2 else FOREVER

    cluster = faulty(LocalCluster(), after=after)
    store = asyncio.run(live(job(replicas=4, failurePolicy=AT_ONCE), script, cluster))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 1)
    assert names(store, "Pod") == [f"digits-1-{index}" for index in range(4)]
    assert names(store, "Service") == ["digits"]


@pytest.mark.parametrize("seed", range(25))
def test_an_operator_killed_at_any_moment_loses_and_doubles_nothing(seed: int) -> None:
    """The operator is cancelled after a random number of steps of the loop, again and again."""
    chance = random.Random(seed)

    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt == 2 else 1 if index == attempt else FOREVER

    async def scenario() -> LocalCluster:
        store = LocalCluster()
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

    store = asyncio.run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 2, 2)
    assert names(store, "Pod") == [f"digits-2-{index}" for index in range(6)]
    assert names(store, "Service") == ["digits"]


@pytest.mark.parametrize("seed", range(15))
def test_an_operator_killed_while_a_job_is_scaled_leaves_one_whole_attempt(seed: int) -> None:
    """The job is scaled between two lives of the operator, and sometimes suspended as well."""
    chance = random.Random(seed)

    async def scenario() -> LocalCluster:
        store = LocalCluster()
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

    store = asyncio.run(scenario())
    status = status_of(store)
    assert (status.ready_ratio, status.wanted, status.restarts) == ("4/4", 4, 0)
    assert names(store, "Pod") == [f"digits-{status.attempt}-{index}" for index in range(4)]
    assert names(store, "NetworkPolicy") == ["digits"]
    envs = [one["spec"]["containers"][0]["env"] for one in store.objects("Pod")]
    assert {e["value"] for env in envs for e in env if e["name"] == "WORLD_SIZE"} == {"4"}


class Counting(LocalCluster):
    """Counts what is written, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: Counter[str] = Counter()

    async def create(self, manifest: Manifest) -> Manifest:
        self.writes[manifest["kind"]] += 1
        return await super().create(manifest)

    async def delete(
        self, ref: Ref, *, uid: str, grace_seconds: int | None = None
    ) -> Manifest | None:
        self.writes["delete"] += 1
        return await super().delete(ref, uid=uid, grace_seconds=grace_seconds)

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        self.writes["status"] += 1
        return await super().write_status(ref, status, uid=uid, resource_version=resource_version)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        pytest.param({}, {}, id="the least"),
        pytest.param(
            {
                "elastic": {"maxReplicas": 32},
                "activeDeadlineSeconds": 99,
                "startupDeadlineSeconds": 99,
                "network": {"isolate": True},
                "scheduling": {"gang": "volcano"},
            },
            {"NetworkPolicy": 1, "PodGroup": 1},
            id="what fields ask for is made once",
        ),
    ],
)
def test_a_jobs_life_costs_its_objects_and_four_status_writes(
    fields: Manifest, more: dict[str, int]
) -> None:
    store = Counting()
    asyncio.run(live(job(replicas=16, **fields), lambda _attempt, _index: 0, on=store))
    assert store.writes.pop("status") <= 4
    objects = {"AcceleratedJob": 1, "Service": 1, "Pod": 16, "Event": 1} | more
    assert store.writes == objects


class Quota(LocalCluster):
    """Takes so many pods and then refuses, as a quota or a policy does."""

    def __init__(self, pods: int, *, final: bool) -> None:
        super().__init__()
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

    assert asyncio.run(scenario()).pending == ()


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

    store = asyncio.run(scenario())
    assert (status_of(store).phase, names(store, "Pod"), names(store, "Service")) == (
        "Failed",
        [],
        [],
    )


def test_a_pod_of_the_same_name_that_is_not_ours_is_left_alone() -> None:
    async def scenario() -> Status:
        store = LocalCluster()
        other = {
            "kind": "Service",
            "metadata": {"name": "digits", "namespace": "research"},
            "spec": {},
        }
        await store.create(other)
        await store.create(job())
        async with background(operate(store, store)):
            return await until(store, lambda status: bool(status.pending))

    (pending,) = asyncio.run(scenario()).pending
    assert "Service research/digits exists and is not this job's" in pending.message


def test_a_job_that_cannot_be_run_says_why() -> None:
    async def scenario() -> Status:
        store = LocalCluster()
        await store.create(job({"env": [{"name": "RANK", "value": "0"}]}))
        async with background(operate(store, store)):
            return await until(store, lambda status: status.finished)

    (told,) = asyncio.run(scenario()).conditions
    assert (
        told.message == "spec.template.spec.containers[0].env[0].name: RANK is set by the operator"
    )
