import asyncio
from dataclasses import replace

import pytest

from acceleratedjob.api.names import Reason
from acceleratedjob.controller.execute import execute
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.planner.actions import Announce
from tests.attempts import gang_of
from tests.operator.builders import spec

TOLD = Announce(Reason.RESTARTING, "Replica 1 exited with code 1")


@pytest.mark.parametrize(
    ("told", "events"),
    [
        pytest.param([(TOLD, 1), (TOLD, 1)], 1, id="the same again, by an operator started anew"),
        pytest.param([(TOLD, 1), (TOLD, 2)], 2, id="the same of the next attempt"),
        pytest.param(
            [(TOLD, 1), (Announce(Reason.RESTARTING, "Replica 0"), 1)], 2, id="another sentence"
        ),
        pytest.param([(TOLD, 1), (Announce(Reason.RESIZING, TOLD.message), 1)], 2, id="another"),
    ],
)
def test_an_event_is_told_once_an_attempt(told: list[tuple[Announce, int]], events: int) -> None:
    cluster = LocalCluster()

    async def tell() -> None:
        for second, (event, attempt) in enumerate(told):
            time = f"2026-01-01T12:00:0{second}Z"
            assert await execute(cluster, gang_of(spec(), attempt), event, time=time) is None

    asyncio.run(tell())
    assert len(cluster.objects("Event")) == events


def test_a_job_made_anew_tells_its_own_events() -> None:
    cluster = LocalCluster()

    async def tell() -> None:
        for uid in ("a", "b"):
            await execute(cluster, gang_of(replace(spec(), uid=uid), 0), TOLD, time="")

    asyncio.run(tell())
    assert len(cluster.objects("Event")) == 2
