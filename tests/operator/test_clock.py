"""What a clock that is set while the operator waits does to a job."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Ref
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.planner.report import restarting
from tests.attempts import pod_of
from tests.operator.builders import NOW, job, spec
from tests.operator.clockwork import Clock, Fated, Operator

FAILURE = Failure(attempt=0, replica=1, pod="digits-0-1", reason="Error", time=format_time(NOW))
FAILED = restarting(spec(), Status().with_failures(FAILURE), "", counted=True, now=NOW)


@pytest.mark.parametrize("hours", [-24, -1, 1])
def test_a_backoff_is_as_long_by_a_wrong_clock_as_by_a_right_one(hours: int) -> None:
    """One that was ahead when the failure was recorded, or is behind now, lengthens nothing."""
    clock = Clock()
    store = LocalCluster(now=clock.now)
    time = format_time(NOW + timedelta(hours=max(0, hours)))
    failed = replace(FAILED, failures=(replace(FAILURE, time=time),))
    backoff = {"initialSeconds": 20}
    made = job(failurePolicy={"backoff": backoff}) | {"status": failed.to_manifest()}
    clock.run_until_complete(store.create(made))
    clock.wrong = timedelta(hours=min(0, hours))
    operator = Operator(clock, Fated(store, Ref(names.KIND, "research", "digits")))
    found = []
    for _ in range(3):
        operator.hear_all()
        clock.tick()
        found.append(len(store.objects("Pod")))
        clock.elapsed += 10.5
    operator.close()
    clock.run_until_complete(asyncio.sleep(0))
    clock.close()
    assert found == [0, 0, 2]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_pod_whose_node_is_lost_has_its_time_by_whatever_clock(hours: int) -> None:
    """Its deletion was asked for with 30 s, and 30 more are its kubelet's."""
    clock = Clock()
    store = LocalCluster(now=clock.now)
    clock.run_until_complete(store.create(job() | {"status": FAILED.to_manifest()}))
    (owner,) = store.objects(names.KIND)
    old = pod_of(spec(), attempt=0, index=0)
    old["metadata"]["ownerReferences"][0]["uid"] = owner["metadata"]["uid"]
    old["spec"]["nodeName"] = "n0"
    made = clock.run_until_complete(store.create(old))
    clock.run_until_complete(store.delete(Ref.of(old), uid=made["metadata"]["uid"]))
    clock.wrong = timedelta(hours=hours)
    operator = Operator(clock, Fated(store, Ref(names.KIND, "research", "digits")))
    found = []
    for seconds in (1, 28, 30, 2):
        operator.hear_all()
        clock.tick()
        clock.elapsed += seconds
        clock.tick()
        found.append(len(store.objects("Pod")))
    operator.close()
    clock.run_until_complete(asyncio.sleep(0))
    clock.close()
    assert found == [1, 1, 1, 3]
