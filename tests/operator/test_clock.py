"""What a clock that is set while the operator waits does to a job."""

import asyncio
from datetime import timedelta

import pytest

from acceleratedjob import api
from acceleratedjob.cluster import Ref
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.reconciler import COALESCE_SECONDS, LOOK_AGAIN_SECONDS
from acceleratedjob.report import restarting
from acceleratedjob.status import Failure, Status, format_time
from tests.operator.builders import NOW, job, spec
from tests.operator.clockwork import Clock, Fated, Operator

FAILURE = Failure(attempt=0, replica=1, pod="digits-0-1", reason="Error", time=format_time(NOW))
FAILED = restarting(spec(), Status().with_failure(FAILURE), "", counted=True, now=NOW)


@pytest.mark.parametrize("hours", [-1, -24])
def test_a_wait_that_a_wrong_clock_has_made_ends_soon_after_it_is_right(hours: int) -> None:
    clock = Clock()
    store = LocalCluster(now=clock.now)
    clock.run_until_complete(store.create(job() | {"status": FAILED.to_manifest()}))
    clock.wrong = timedelta(hours=hours)
    operator = Operator(clock, Fated(store, Ref(api.KIND, "research", "digits")))
    for _ in range(3):  # until the counters are written, too: nothing but the wait is left
        operator.hear_all()
        clock.tick()
        clock.elapsed += COALESCE_SECONDS + 1
    assert store.objects("Pod") == []
    clock.wrong = timedelta()
    clock.elapsed += LOOK_AGAIN_SECONDS
    clock.tick()
    operator.close()
    clock.run_until_complete(asyncio.sleep(0))
    clock.close()
    assert len(store.objects("Pod")) == 2
