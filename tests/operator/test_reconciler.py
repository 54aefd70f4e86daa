from collections import Counter

import pytest

from acceleratedjob.api.names import ConditionType, Manifest
from acceleratedjob.cluster import Ref
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
from tests.operator.node import FOREVER, Node


def test_a_job_runs_and_succeeds() -> None:
    store = run(live(job(replicas=3), lambda _attempt, _index: 0))
    status = status_of(store)
    assert (status.phase, status.succeeded, status.restarts) == ("Succeeded", 3, 0)
    assert object_names(store, "Pod") == ["digits-0-0", "digits-0-1", "digits-0-2"]
    assert object_names(store, "Service") == ["digits"]
    assert [one["reason"] for one in store.objects("Event")] == ["Succeeded"]


def test_one_failed_replica_restarts_all_of_them() -> None:
    def script(attempt: int, index: int) -> int | None:
        return 0 if attempt else 1 if index == 1 else FOREVER

    store = run(live(job(failurePolicy=AT_ONCE), script))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 1)
    assert [(f.attempt, f.replica, f.exit_code) for f in status.failures] == [(0, 1, 1)]
    assert object_names(store, "Pod") == ["digits-1-0", "digits-1-1"]


def test_restarts_end_at_the_limit_and_no_survivor_stays() -> None:
    def script(_attempt: int, index: int) -> int | None:
        return 7 if index == 1 else FOREVER

    manifest = job(failurePolicy=AT_ONCE | {"maxRestarts": 2})
    store = run(live(manifest, script))
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Failed", 2, 2)
    assert object_names(store, "Pod") == ["digits-2-1"]  # the failed one, for its log
    assert [f.exit_code for f in status.failures] == [7, 7, 7]


def test_a_suspended_job_has_no_pods_and_goes_on_when_resumed() -> None:
    async def scenario() -> LocalCluster:
        store = LocalCluster(unhurried_now)
        await store.create(job())
        finish = False
        node = Node(store, lambda _attempt, _index: 0 if finish else FOREVER)
        async with background(node.run(), operate(store, store)):
            await until(store, lambda status: status.phase == "Running")
            store.change(REF, lambda found: found["spec"].update(suspend=True))
            await until(store, lambda status: status.holds(ConditionType.SUSPENDED))
            await settle(store)
            assert object_names(store, "Pod") == []
            finish = True
            store.change(REF, lambda found: found["spec"].update(suspend=False))
            await until(store, lambda status: status.finished)
        return store

    store = run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 0)
    assert [one["reason"] for one in store.objects("Event")] == [
        "Suspended",
        "Resumed",
        "Succeeded",
    ]


def test_a_scaled_job_begins_anew_in_its_new_size() -> None:
    async def scenario() -> LocalCluster:
        store = LocalCluster(unhurried_now)
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

    store = run(scenario())
    status = status_of(store)
    assert (status.phase, status.attempt, status.resizes, status.restarts) == ("Succeeded", 1, 1, 0)
    envs = [one["spec"]["containers"][0]["env"] for one in store.objects("Pod")]
    sizes = {entry["value"] for env in envs for entry in env if entry["name"] == "WORLD_SIZE"}
    assert (len(envs), sizes) == (3, {"3"})


class Counting(LocalCluster):
    """Counts what is written, by kind."""

    def __init__(self) -> None:
        super().__init__(unhurried_now)
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
    run(live(job(replicas=16, **fields), lambda _attempt, _index: 0, on=store))
    assert store.writes.pop("status") <= 4
    objects = {"AcceleratedJob": 1, "Service": 1, "Pod": 16, "Event": 1} | more
    assert store.writes == objects
