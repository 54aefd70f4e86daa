"""Storms in which what the operator's watches would go on from is no more: a real 410."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from acceleratedjob.api.status import Status
from tests.cluster.conftest import FAKE_NODES
from tests.cluster.jobs import install_crd
from tests.cluster.proxy import Proxy, recorder
from tests.cluster.storms import JOBS, PATIENCE, REPLICAS, Storm, patch
from tests.cluster.test_chaos import behind, delete_a_pod, lists, pause, ride
from tests.cluster.testbed import beds
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import Place

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("chaos"),
]


@pytest.fixture(scope="module")
def plane(programs: None) -> Iterator[ControlPlane]:  # noqa: ARG001
    """A control plane that keeps no history but etcd's."""
    if os.environ.get("ACCELERATEDJOB_TEST_CLUSTER") == "existing":
        pytest.skip("an existing cluster is nothing to wreck")
    place = Place(f"compacted-{os.getpid()}")
    with beds.control_plane(place, fake_nodes=FAKE_NODES, watch_cache=False) as own:
        install_crd(own.cluster)
        yield own


async def compact(over: Storm, way: Proxy, change: Callable[[Storm], Awaitable[None]]) -> None:
    """Cut the watches, and forget all that they could go on from; return when pods are relisted.

    Args:
        over: the storm.
        way: to the API server.
        change: what no watch of before can be given.
    """
    known = lists(over, way)
    way.refuse()
    await change(over)
    await label_a_job(over)  # for a watch that has told all but the last change has missed nothing
    await asyncio.to_thread(over.plane.compact)
    way.forward()
    await until(lambda: lists(over, way) > known)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process asks for."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.02)


def has_run(status: Status) -> bool:
    """Whether the operator has seen all pods of a job run, which no answer to a creation says."""
    return status.ready == REPLICAS or status.attempt > 0


async def label_a_job(over: Storm) -> None:
    await patch(over, "job0", {"metadata": {"labels": {"storm": str(over.chance.random())}}})


def creations(over: Storm, way: Proxy) -> int:
    """How often a pod's creation was sent."""
    return sum(
        one.startswith(f"POST /api/v1/namespaces/{over.namespace}/pods?") for one in way.requests
    )


def test_the_history_is_compacted_while_the_watches_are_cut(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async def compactions(over: Storm) -> None:
        with recorder(over.plane) as way, behind(over.plane, over, way) as process:
            process.wait("/readyz", 200)
            for _ in range(4):
                await pause(over, 3)
                await compact(over, way, delete_a_pod)
            await over.finish()

    ride(plane, tmp_path, compactions)


def test_a_compaction_while_pods_are_created_ends_no_attempt(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """The lists come at any moment of the creation, and their answers later than those to it."""

    async def compactions(over: Storm) -> None:
        with recorder(over.plane) as way, behind(over.plane, over, way) as process:
            process.wait("/readyz", 200)
            for number in range(JOBS):
                way.delay(over.chance.choice([0.05, 0.1]))  # else creations are over before a blow
                sent, name = creations(over, way), f"late{number}"
                await over.create(name)
                await until(lambda sent=sent: creations(over, way) > sent)  # type: ignore[misc]
                await pause(over, 0.1)
                await compact(over, way, label_a_job)
                await over.until(lambda all_, name=name: has_run(all_[name]))  # type: ignore[misc]
            await over.finish()

    ride(plane, tmp_path, compactions, calm=True)
