"""A storm in which what the operator's watches would go on from is no more: a real 410."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.cluster.conftest import FAKE_NODES
from tests.cluster.jobs import install_crd
from tests.cluster.proxy import recorder
from tests.cluster.storms import PATIENCE, Storm
from tests.cluster.test_chaos import behind, delete_a_pod, lists, pause, ride
from tests.cluster.testbed import beds
from tests.cluster.testbed.places import Place

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("chaos"),
]


def test_the_history_is_compacted_while_the_watches_are_cut(
    programs: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    async def compactions(over: Storm) -> None:
        with recorder(over.plane) as way, behind(over.plane, over, way) as process:
            process.wait("/readyz", 200)
            for _ in range(4):
                await pause(over, 3)
                known = lists(over, way)
                way.refuse()
                await delete_a_pod(over)  # a change that no watch of before can be given
                await asyncio.to_thread(over.plane.compact)
                way.forward()
                async with asyncio.timeout(PATIENCE):
                    while lists(over, way) == known:  # noqa: ASYNC110  # another process asks
                        await asyncio.sleep(0.1)
            await over.finish()

    if os.environ.get("ACCELERATEDJOB_TEST_CLUSTER") == "existing":
        pytest.skip("an existing cluster is nothing to wreck")
    place = Place(f"compacted-{os.getpid()}")
    with beds.control_plane(place, fake_nodes=FAKE_NODES, watch_cache=False) as own:
        install_crd(own.cluster)
        ride(own, tmp_path, compactions)
