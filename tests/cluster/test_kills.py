"""kill -9 of the operator, again and again, while it creates, restarts and finishes jobs."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from acceleratedjob.api.names import KIND
from acceleratedjob.api.status import Status
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import collection
from tests.cluster.jobs import fake_job
from tests.cluster.operators import connection, list_objects, operator, playing, start_operator

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

KILLS = 25
JOBS = 3  # side by side
REPLICAS = 16
SEED = os.environ.get("ACCELERATEDJOB_TEST_SEED", "50")


def script(attempt: int, index: int) -> int | None:
    """Two attempts fail, each in another replica; the third succeeds."""
    return 0 if attempt == 2 else 1 if index == attempt + 3 else None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_operator_killed_again_and_again_makes_exactly_the_right_pods(
    kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    asyncio.run(kill_many(kubeconfig, namespace, tmp_path / "operator.log"))


async def kill_many(kubeconfig: Path, namespace: str, log: Path) -> None:
    chance = random.Random(SEED)
    made = 0
    async with connection(kubeconfig) as link:
        async with playing(link, namespace, script):
            for _ in range(KILLS):
                made += await keep_busy(link, namespace, made)
                process = start_operator(kubeconfig, log, namespace)
                await asyncio.sleep(
                    chance.uniform(0.4, 1.8)
                )  # the random moment; it starts in 0.5 s
                process.send_signal(signal.SIGKILL)
                process.wait()
            with operator(kubeconfig, log, namespace):
                await all_finished(link, namespace)
        await check(link, namespace, made)


async def statuses(link: Connection, namespace: str) -> list[Status]:
    return [Status.from_manifest(job) for job in await list_objects(link, KIND, namespace)]


async def all_finished(link: Connection, namespace: str) -> None:
    async with asyncio.timeout(400):
        while not all(status.finished for status in await statuses(link, namespace)):  # noqa: ASYNC110  # another process' state
            await asyncio.sleep(0.2)


async def keep_busy(link: Connection, namespace: str, made: int) -> int:
    """Make jobs until so many are under way; returns how many were made."""
    busy = sum(not status.finished for status in await statuses(link, namespace))
    policy = {"backoff": {"initialSeconds": 0}}
    for number in range(made, made + JOBS - busy):
        manifest = fake_job(namespace, f"job{number}", replicas=REPLICAS, failurePolicy=policy)
        await link.request("POST", collection(KIND, namespace), manifest)
    return JOBS - busy


async def check(link: Connection, namespace: str, made: int) -> None:
    found = await statuses(link, namespace)
    assert [(s.phase, s.attempt, s.restarts) for s in found] == [("Succeeded", 2, 2)] * made
    assert [[f.replica for f in s.failures] for s in found] == [[4, 3]] * made
    pods = {pod["metadata"]["name"] for pod in await list_objects(link, "Pod", namespace)}
    assert pods == {f"job{n}-2-{index}" for n in range(made) for index in range(REPLICAS)}
    services = {one["metadata"]["name"] for one in await list_objects(link, "Service", namespace)}
    assert services == {f"job{n}" for n in range(made)}
