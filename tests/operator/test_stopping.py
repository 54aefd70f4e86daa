"""Before pods are deleted their coordinator is told; its pod, replica 0, is deleted last."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from acceleratedjob.api.names import Manifest, parse_pod_name
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.controller.polling.notices import Tell, is_taken, request, tell_pod
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.observe.observed import Notice, Observed
from acceleratedjob.observe.pod import Pod, read_pod
from acceleratedjob.planner.actions import DeletePod, GiveNotice
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from acceleratedjob.planner.state import Plan
from tests.operator.builders import NOW, deleting, ended, job, pod, spec
from tests.operator.clockwork import unhurried_now
from tests.operator.lives import REF, background, run, settle, until
from tests.operator.node import FOREVER, Node
from tests.operator.servers import serving

GANG = (pod(0, address="192.0.2.1"), pod(1), pod(2))
RUNNING = progress(spec(replicas=3), Observed(status=Status(attempt=0, size=3), pods=GANG), NOW)
TAKEN = Notice(is_taken=True, ago=timedelta(seconds=12))
REFUSED = Notice(is_taken=False)
SUSPENDED = {"replicas": 3, "suspend": True}


def suspended(
    *pods: Pod,
    notice: Notice | None = None,
    stopping: Mapping[str, float] | None = None,
    **fields: Any,
) -> Plan:
    """The plan when a running job of three replicas is suspended."""
    seen = Observed(
        status=RUNNING,
        pods=pods,
        notices={} if notice is None else {GANG[0].uid: notice},
        stopping={uid: timedelta(seconds=for_) for uid, for_ in (stopping or {}).items()},
    )
    return plan(spec(**(SUSPENDED | fields)), seen, NOW)


def deleted(made: Plan) -> dict[int, int | None]:
    """The grace period of each replica whose pod is deleted."""
    found = [one for step in made.steps for one in step if isinstance(one, DeletePod)]
    return {(parse_pod_name(one.name) or (0, 0))[1]: one.grace_seconds for one in found}


def told(made: Plan) -> list[GiveNotice]:
    return [one for step in made.steps for one in step if isinstance(one, GiveNotice)]


STARTING = pod(0, address="192.0.2.1", ready=False)
UNREADY = pod(0, address="192.0.2.1", ready=False, running=True)
HALF = (GANG[0], deleting(1), ended(2, 143))


@pytest.mark.parametrize(
    ("pods", "facts", "gone"),
    [
        pytest.param(GANG, {}, {1: None, 2: None}, id="nobody was told: replica 0 is, and stays"),
        pytest.param(GANG, {"notice": TAKEN}, {1: None, 2: None}, id="it has taken the notice"),
        pytest.param(
            GANG, {"notice": REFUSED}, {0: None, 1: None, 2: None}, id="it has not: all at once"
        ),
        pytest.param(
            (STARTING, *GANG[1:]), {}, {0: None, 1: None, 2: None}, id="it cannot be told"
        ),
        pytest.param(
            (UNREADY, *GANG[1:]), {}, {1: None, 2: None}, id="its readiness probe fails: it can"
        ),
        pytest.param((pod(0), *GANG[1:]), {}, {0: None, 1: None, 2: None}, id="it has no address"),
        pytest.param(
            (ended(0, 143, address="192.0.2.1"), *GANG[1:]),
            {"notice": TAKEN},
            {0: 18, 1: None, 2: None},
            id="it has ended before the others",
        ),
        pytest.param(
            (deleting(0, address="192.0.2.1"), *GANG[1:]),
            {},
            {1: None, 2: None},
            id="somebody else deletes it",
        ),
        pytest.param(HALF, {"notice": TAKEN}, {2: None}, id="one of the others still runs"),
        pytest.param(
            HALF, {"notice": TAKEN, "stopping": {GANG[1].uid: 29}}, {2: None}, id="for a second"
        ),
        pytest.param(
            HALF,
            {"notice": TAKEN, "stopping": {GANG[1].uid: 30}},
            {0: 18, 2: None},
            id="the time of the other is over: the rest of its own is left",
        ),
        pytest.param(
            (GANG[0], ended(1, 143), deleting(2, stopped=True)),
            {"notice": TAKEN},
            {0: 18, 1: None},
            id="the others have stopped",
        ),
        pytest.param(GANG[:1], {"notice": TAKEN}, {0: 18}, id="the others are gone"),
        pytest.param(
            GANG[:1],
            {"notice": Notice(is_taken=True, ago=timedelta(seconds=40))},
            {0: 5},
            id="long after the notice a little time is left",
        ),
        pytest.param(
            GANG[:1], {"notice": Notice(is_taken=True)}, {0: None}, id="a job of one replica"
        ),
    ],
)
def test_which_pods_of_a_suspended_job_are_deleted(
    pods: tuple[Pod, ...], facts: dict[str, Any], gone: dict[int, int | None]
) -> None:
    assert deleted(suspended(*pods, **facts)) == gone


@pytest.mark.parametrize(
    ("pods", "fields", "seconds"),
    [
        pytest.param(GANG, {}, 30, id="the usual grace period"),
        pytest.param(
            tuple(replace(one, grace_seconds=90) for one in GANG), {}, 90, id="that of the pods"
        ),
        pytest.param((GANG[0], deleting(1, seconds=7), GANG[2]), {}, 7, id="a pod is drained"),
        pytest.param((GANG[0], deleting(1, seconds=-9), GANG[2]), {}, 1, id="its time is over"),
        pytest.param(
            (GANG[0], ended(1, 143, delete_by=NOW), GANG[2]), {}, 30, id="it has ended already"
        ),
    ],
)
def test_the_coordinator_hears_how_long_the_first_pod_lives(
    pods: tuple[Pod, ...], fields: dict[str, Any], seconds: int
) -> None:
    (notice,) = told(suspended(*pods, **fields))
    assert notice == GiveNotice(GANG[0].uid, 0, "192.0.2.1", 29400, seconds)


def test_the_notice_comes_before_the_deletions() -> None:
    made = suspended(*GANG)
    assert [type(step[0]) for step in made.steps[:2]] == [GiveNotice, DeletePod]


def test_replica_0_is_looked_at_again_when_the_time_of_the_others_is_over() -> None:
    made = suspended(*HALF, notice=TAKEN, stopping={GANG[1].uid: 20})
    assert made.requeue_after == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("fields", "pods", "kept"),
    [
        pytest.param({"replicas": 2}, GANG, True, id="a resize"),
        pytest.param({"replicas": 3}, (GANG[0], deleting(1), GANG[2]), True, id="a drain"),
        pytest.param(
            {"replicas": 3}, (GANG[0], ended(1, 143), GANG[2]), True, id="one has stopped"
        ),
        pytest.param(
            {"replicas": 3},
            (GANG[0], deleting(1, disrupted="DeletionByTaintManager"), GANG[2]),
            True,
            id="a taint",
        ),
        pytest.param({"replicas": 3}, (GANG[0], ended(1, 1), GANG[2]), False, id="a failure"),
        pytest.param(
            {"replicas": 3, "activeDeadlineSeconds": 1}, GANG, True, id="the job's deadline"
        ),
    ],
)
def test_whenever_the_training_may_stop_by_itself_its_coordinator_is_told(
    fields: dict[str, Any], pods: tuple[Pod, ...], kept: bool
) -> None:
    begun = replace(RUNNING, start_time="2026-01-01T11:00:00Z")
    made = plan(spec(**fields), Observed(status=begun, pods=pods), NOW)
    assert bool(told(made)) == kept
    assert (0 not in deleted(made)) == kept


def test_the_grace_period_in_the_spec_of_a_pod_is_read() -> None:
    read = read_pod(
        {
            "metadata": {"name": "digits-0-0", "uid": "u"},
            "spec": {"terminationGracePeriodSeconds": 90},
        }
    )
    assert read is not None
    assert read.grace_seconds == 90


# What is sent, and what is made of the answer.


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        pytest.param(b"HTTP/1.1 202 Accepted\r\n\r\nyes", True, id="taken"),
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False, id="ranks are missing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", False, id="a server that takes anything"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", False, id="a redirect"),
        pytest.param(b"garbage", False, id="garbage"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"HTTP/1.1 202 " + b"a" * 2**20, False, id="a head without end"),
    ],
)
def test_only_a_coordinator_that_takes_the_notice_counts(answer: bytes, taken: bool) -> None:
    async def scenario() -> bool:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            writer.write(answer)
            await writer.drain()

        async with serving(serve) as port:
            target = Target(pod="p", attempt=0, address="127.0.0.1", port=port)
            return await is_taken(partial(tell_pod, seconds=600), target, request("uid", 3, 17))

    assert asyncio.run(scenario()) == taken


def test_nobody_need_listen() -> None:
    target = Target(pod="p", attempt=0, address="127.0.0.1", port=1)
    assert not asyncio.run(is_taken(tell_pod, target, b""))


# The whole operator, with a store in memory.


class Slow(Node):
    """A node on which the pods that are deleted stop when a test says so."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(cluster, lambda _attempt, _index: FOREVER)
        self.holds = True

    def _step(self, pod: Manifest) -> None:
        if self.holds and pod["metadata"].get("deletionTimestamp"):
            return
        super()._step(pod)
        there = [Ref.of(one) for one in self.cluster.objects("Pod")]
        if Ref.of(pod) in there and "podIP" not in pod["status"]:
            self.cluster.change(Ref.of(pod), _with_address)

    def release(self) -> None:
        """Let the pods stop that are being deleted."""
        self.holds = False
        for one in self.cluster.objects("Pod"):
            self._step(one)


def _with_address(stored: Manifest) -> None:
    stored["status"]["podIP"] = "192.0.2.1"


async def operate(store: LocalCluster, tell: Tell) -> None:
    """The whole life of an operator."""
    controller = Controller(store, retry_seconds=0.001, tell=tell, now=unhurried_now)
    async with background(controller.run()):
        async for change in store.watch("AcceleratedJob"):
            for one in getattr(change, "objects", ()) or (getattr(change, "object", None),):
                if one is not None:
                    controller.see(one)


async def asked_to_stop(tell: Tell, *, kills: int = 0) -> set[int]:
    """Suspend a running job of four; return whose pods are deleted while none has stopped."""
    store = LocalCluster(unhurried_now)
    await store.create(job(replicas=4))
    node = Slow(store)
    async with background(node.run()):
        async with background(operate(store, tell)):
            await until(store, lambda status: status.phase == "Running")
        store.change(REF, lambda found: found["spec"].update(suspend=True))
        for turns in range(kills):
            async with background(operate(store, tell)):
                for _ in range(turns * 3):
                    await asyncio.sleep(0)
        async with background(operate(store, tell)):
            await until(store, lambda status: status.phase == "Suspended")
            await settle(store)
            asked = [one for one in store.objects("Pod") if "deletionTimestamp" in one["metadata"]]
            node.release()
            await settle(store)
    assert not store.objects("Pod")
    status = Status.from_manifest(store.objects("AcceleratedJob")[0])
    assert (status.attempt, status.restarts) == (1, 0)
    return {(parse_pod_name(one["metadata"]["name"]) or (0, 0))[1] for one in asked}


@pytest.mark.parametrize("kills", [0, 20], ids=["one operator", "operators that are killed"])
def test_a_coordinator_that_takes_the_notice_outlives_the_others(kills: int) -> None:
    said: list[dict[str, Any]] = []

    async def tell(_: Target, sent: bytes) -> int:
        said.append(json.loads(sent.partition(b"\r\n\r\n")[2]))
        await asyncio.sleep(0)
        return 202

    assert run(asked_to_stop(tell, kills=kills)) == {1, 2, 3}
    assert {one["attempt"] for one in said} == {0}
    assert len({one["uid"] for one in said}) == 1
    assert kills or len(said) == 1


def test_pods_that_do_not_answer_are_deleted_all_the_same() -> None:
    async def tell(_target: Target, _sent: bytes) -> int:
        raise ConnectionRefusedError

    assert run(asked_to_stop(tell)) == {0, 1, 2, 3}
