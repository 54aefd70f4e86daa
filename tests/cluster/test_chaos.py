"""Storms of a fixed seed on a control plane of their own: afterwards all is as after a calm."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.times import utc_now
from acceleratedjob.cluster import Changed, Gone
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.cluster import KubernetesCluster
from tests.cluster.conftest import FAKE_NODES
from tests.cluster.jobs import install_crd
from tests.cluster.members import SHORT, Member, elected, member
from tests.cluster.operators import operator, start_operator
from tests.cluster.proxy import Proxy, proxy, recorder
from tests.cluster.storms import (
    JOBS,
    Storm,
    check_accounts,
    check_logs,
    check_objects,
    delete,
    patch,
    storm,
)
from tests.cluster.testbed import beds, kwok
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import Place

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("chaos"),
]

SEED = os.environ.get("ACCELERATEDJOB_TEST_SEED", "50")
Weather = Callable[[Storm], Coroutine[None, None, None]]


@pytest.fixture(scope="module")
def plane(programs: None) -> Iterator[ControlPlane]:  # noqa: ARG001
    """A control plane that nobody else suffers with."""
    if os.environ.get("ACCELERATEDJOB_TEST_CLUSTER") == "existing":
        pytest.skip("an existing cluster is nothing to wreck")
    with beds.control_plane(Place(f"chaos-{os.getpid()}"), fake_nodes=FAKE_NODES) as own:
        install_crd(own.cluster)
        yield own


def ride(plane: ControlPlane, folder: Path, weather: Weather, *, calm: bool = False) -> None:
    """Have a storm over some jobs, and hold what is left to what a calm leaves."""

    async def out() -> None:
        async with storm(plane, folder, SEED) as over:
            await weather(over)
            await check_objects(over, statuses := await over.finish())
            check_accounts(statuses, calm=calm)

    asyncio.run(out())
    check_logs(folder)


def pause(over: Storm, longest: float = 0.6) -> Coroutine[None, None, None]:
    """Until the next blow: the random moment."""
    return asyncio.sleep(over.chance.uniform(0.05, longest))


def served(weather: Weather, *, seconds: float = 0.6, blows: int = 25) -> Weather:
    """The same blow again and again on the jobs of one operator."""

    async def many(over: Storm) -> None:
        with operator(over.plane.kubeconfig, over.folder / "operator.log", over.namespace):
            for _ in range(blows):
                await weather(over)
                await pause(over, seconds)
            await over.finish()

    return many


async def delete_a_pod(over: Storm) -> None:
    pods = [pod["metadata"]["name"] for pod in await over.pods()]
    if pods:
        await delete(over, "Pod", over.chance.choice(pods), grace=over.chance.choice([None, 0]))


async def edit_a_job(over: Storm) -> None:
    """Its author changes the spec, and somebody else what only the operator should write."""
    name = f"job{over.chance.randrange(JOBS)}"
    limit = {"spec": {"failurePolicy": {"maxRestarts": over.chance.randint(3, 9)}}}
    label = {"metadata": {"labels": {"edited": str(over.chance.random())}}}
    await patch(over, name, over.chance.choice([limit, label]))
    nonsense = {"status": {"phase": "Pending", "ready": 77, "readyRatio": "0/77"}}
    await patch(over, name, nonsense, "/status")


@pytest.mark.parametrize(
    ("weather", "calm"),
    [
        pytest.param(served(delete_a_pod, blows=15), False, id="pods deleted by hand"),
        pytest.param(served(edit_a_job), True, id="edits of the spec and of the status"),
    ],
)
def test_a_storm_from_outside(
    plane: ControlPlane, tmp_path: Path, weather: Weather, calm: bool
) -> None:
    ride(plane, tmp_path, weather, calm=calm)


async def lose_a_node(over: Storm) -> None:
    """The node object goes, and its pods with it; another of its name comes later."""
    number = over.chance.randrange(FAKE_NODES)
    kubectl, name = over.plane.cluster.kubectl, f"kwok-{number}"
    await asyncio.to_thread(kubectl, "delete", "node", name, "--wait=false")
    for pod in await over.pods():
        if pod["spec"].get("nodeName") == name:
            await delete(over, "Pod", pod["metadata"]["name"], grace=0)
    await pause(over)
    await asyncio.to_thread(kubectl, "apply", "--filename=-", stdin=kwok.nodes(FAKE_NODES))


def test_nodes_vanish_and_come_back(plane: ControlPlane, tmp_path: Path) -> None:
    ride(plane, tmp_path, served(lose_a_node, blows=6, seconds=1.5))


def test_either_of_two_operators_is_killed_again_and_again(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async def kills(over: Storm) -> None:
        flags = elected(over.namespace, *SHORT)

        def start(number: int) -> Member:
            log = over.folder / f"{number}.log"
            return Member(start_operator(plane.kubeconfig, log, over.namespace, *flags), 0, log)

        members = [start(0), start(1)]
        try:
            for _ in range(8):
                await pause(over, 4)
                victim = over.chance.randrange(2)
                await asyncio.to_thread(members[victim].end, signal.SIGKILL)
                members[victim] = start(victim)
            await over.finish()
        finally:
            for each in members:
                each.process.kill()
                each.process.wait()

    ride(plane, tmp_path, kills, calm=True)


def behind(
    plane: ControlPlane, over: Storm, way: Proxy
) -> contextlib.AbstractContextManager[Member]:
    through = way.kubeconfig(plane.kubeconfig, over.folder)
    return member(through, over.folder / "operator.log", over.namespace)


def test_the_api_server_is_restarted_and_has_forgotten_what_the_watches_saw(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async def restarts(over: Storm) -> None:
        with recorder(plane) as way, behind(plane, over, way) as process:
            process.wait("/readyz", 200)
            for _ in range(3):
                await pause(over, 3)
                way.refuse()
                await asyncio.to_thread(plane.restart_api_server)
                await delete_a_pod(over)  # a change that no watch of before can be given
                way.forward()
            await over.finish()
            assert lists(over, way) > 1, "a watch that is too old (410) begins with a new list"

    ride(plane, tmp_path, restarts)


def lists(over: Storm, way: Proxy) -> int:
    """How often all pods were asked for: at the beginning, and after each 410."""
    pods = f"GET /api/v1/namespaces/{over.namespace}/pods?"
    return sum(one.startswith(pods) and "watch" not in one for one in way.requests)


def test_connections_are_slow_cut_refused_and_lost_in_the_middle_of_requests(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async def faults(over: Storm) -> None:
        with proxy(plane.kubeconfig) as way, behind(plane, over, way) as process:
            process.wait("/readyz", 200)
            for _ in range(25):
                blow = over.chance.choice(["slow", "cut", "refuse", "lose"])
                if blow == "slow":
                    way.delay(over.chance.uniform(0.02, 0.2))
                elif blow == "refuse":
                    way.refuse()
                elif blow == "lose":
                    way.drop()
                await pause(over)
                way.cut()
                way.forward()
                await pause(over)
            await over.finish()

    ride(plane, tmp_path, faults, calm=True)


def test_a_job_is_deleted_and_made_again_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    async def again(over: Storm) -> None:
        name = f"job{over.chance.randrange(JOBS)}"
        await delete(over, names.KIND, name)
        await over.create(name)

    ride(plane, tmp_path, served(again, blows=10, seconds=1.0), calm=True)


def test_a_namespace_is_deleted_while_its_jobs_run(plane: ControlPlane, tmp_path: Path) -> None:
    async def out() -> None:
        async with storm(plane, tmp_path, SEED) as over:
            kubectl = plane.cluster.kubectl
            with operator(plane.kubeconfig, tmp_path / "operator.log", over.namespace):
                await over.underway()
                gone = ("delete", "namespace", over.namespace, "--timeout=240s")
                await asyncio.to_thread(kubectl, *gone)
                await asyncio.to_thread(kubectl, "create", "namespace", over.namespace)
                await over.create("job0")
                statuses = await over.finish()
            await check_objects(over, statuses)
            check_accounts(statuses, calm=True)

    asyncio.run(out())
    check_logs(tmp_path)


async def follow(cluster: KubernetesCluster, controller: Controller) -> None:
    """Tell a controller of the jobs, as kopf does."""
    async for change in cluster.watch(names.KIND):
        if isinstance(change, Gone):
            controller.forget(change.object["metadata"]["uid"])
        else:
            found = (change.object,) if isinstance(change, Changed) else change.objects
            for one in found:
                controller.see(one)


def test_the_clock_of_an_operator_is_set_back_ahead_and_right_again(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """Every wait that a wrong clock has made ends soon after it is right; none is cut short."""
    wrong = timedelta()

    def now() -> datetime:
        return utc_now() + wrong

    async def jumps(over: Storm) -> None:
        nonlocal wrong
        cluster = KubernetesCluster(over.link, over.namespace)
        controller = Controller(cluster, now=now)
        async with asyncio.TaskGroup() as tasks:
            work = (controller.run(), follow(cluster, controller))
            background = [tasks.create_task(one) for one in work]
            for _ in range(20):
                wrong = timedelta(hours=over.chance.choice([-1, 0, 1]))
                await pause(over)
            wrong = timedelta()
            await over.finish()
            for task in background:
                task.cancel()

    ride(plane, tmp_path, jumps, calm=True)
