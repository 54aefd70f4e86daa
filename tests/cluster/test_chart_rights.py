"""Each right of the operator is taken away once, and what docs/permissions.md says of that is so.

One operator serves many namespaces. In one its account has every right, and all stories come to
their ends there. In each of the others it lacks one right, and the story that needs it does not.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.kube.client import Connection
from acceleratedjob.manager.leaderelection import Election
from acceleratedjob.manager.lease import Terms
from acceleratedjob.manifests.podgroup import SCHEDULERS
from tests.cluster.charts import FULL_NAME, Release, Right, documented
from tests.cluster.definitions import known, pod_groups
from tests.cluster.members import SECONDS, Member, member
from tests.cluster.operators import connection
from tests.cluster.stories import STORIES, Place, is_refused
from tests.cluster.testbed.cluster import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.xdist_group("podgroups"),
    pytest.mark.usefixtures("crd", "fake_nodes"),
]

TOLD = documented()
OF_LEASES = [right for right in TOLD if right[0] == "coordination.k8s.io"]
OF_JOBS = [right for right in TOLD if right not in OF_LEASES]
RBAC = "rbac.authorization.k8s.io"
LEASE = "coordination.k8s.io/v1"
TERMS = Terms(duration=600, deadline=500, retry=0.1)


def named(right: Right) -> str:
    """A right, and what is broken without it."""
    return f"{right[2]} {right[1]}: {TOLD[right]}"


def granted(namespace: str, *, without: Right | None, account: str) -> list[dict[str, Any]]:
    """A namespace where a service account of another one has all rights of the operator but one."""
    rules = [
        {
            "apiGroups": [group],
            "resources": [resource.removesuffix(f"/{FULL_NAME}")],
            "verbs": [verb],
        }
        | ({"resourceNames": [FULL_NAME]} if resource.endswith(FULL_NAME) else {})
        for group, resource, verb in TOLD
        if (group, resource, verb) != without
    ]
    named = {"metadata": {"name": "operator", "namespace": namespace}}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": account}
    role = {"apiGroup": RBAC, "kind": "Role", "name": "operator"}
    head = {"apiVersion": f"{RBAC}/v1"} | named
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        named | {"apiVersion": "v1", "kind": "ServiceAccount"},
        head | {"kind": "Role", "rules": rules},
        head | {"kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
    ]


def apply(cluster: Cluster, objects: list[dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=text)


@pytest.fixture(scope="module")
def gangs(testbed: Cluster) -> Iterator[None]:
    """The API server knows the PodGroups of every gang."""
    apis = [scheduler.api_version for scheduler in SCHEDULERS.values()]
    with known(testbed, [pod_groups(api) for api in apis]):
        yield


async def told(link: Connection, operator: Member, spaces: list[str]) -> dict[Right, list[str]]:
    """Tell all stories side by side, twice; what has come where a right is not there."""
    numbered = enumerate(zip(OF_JOBS, spaces[1:], strict=True))
    places = [
        (Place(link, operator, right, spaces[0], f"job{n:02}"), Place(link, operator, right, space))
        for n, (right, space) in numbered
    ]
    async with asyncio.TaskGroup() as tasks:
        for whole, lacking in places:
            story, *goals = STORIES[TOLD[whole.right]]
            tasks.create_task(whole.tell(story, *goals))
            tasks.create_task(lacking.tell(story, is_refused))
    return {
        at.right: [goal.__name__ for goal in STORIES[TOLD[at.right]][1:] if await goal(at)]
        for _, at in places
    }


@pytest.fixture(scope="module")
def reached(
    testbed: Cluster, gangs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Right, list[str]]]:
    """Which goals of a right's story were reached without that right, when all else was over."""
    assert gangs is None
    folder, prefix = tmp_path_factory.mktemp("rights"), f"test-{uuid.uuid4().hex[:8]}"
    spaces = [prefix, *(f"{prefix}-{n}" for n in range(len(OF_JOBS)))]
    allowed = zip(spaces, [None, *OF_JOBS], strict=True)
    roles = [granted(space, without=right, account=prefix) for space, right in allowed]
    apply(testbed, [each for role in roles for each in role])
    account = Release(testbed, prefix).kubeconfig("operator", folder / "kubeconfig")
    served = [f"--namespace={space}" for space in spaces[1:]]

    async def run(operator: Member) -> dict[Right, list[str]]:
        async with connection(testbed.kubeconfig) as link:
            return await told(link, operator, spaces)

    try:
        with member(account, folder / "operator.log", prefix, *served) as operator:
            yield asyncio.run(run(operator))
            assert operator.process.poll() is None
    finally:
        testbed.kubectl("delete", "namespace", *spaces, "--wait=false")


@pytest.mark.parametrize("right", OF_JOBS, ids=[named(right) for right in OF_JOBS])
def test_without_a_right(reached: dict[Right, list[str]], right: Right) -> None:
    assert reached[right] == []


@pytest.mark.parametrize("right", OF_LEASES, ids=[named(right) for right in OF_LEASES])
def test_without_a_right_on_leases(
    testbed: Cluster, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, right: Right
) -> None:
    apply(testbed, granted(namespace, without=right, account=namespace))
    account = Release(testbed, namespace).kubeconfig("operator", tmp_path / "kubeconfig")
    if right[2] == "update":  # there must be one that is free
        free = {"apiVersion": LEASE, "kind": "Lease", "metadata": {"name": FULL_NAME}}
        testbed.kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(free))

    async def run() -> None:
        async with (
            asyncio.timeout(SECONDS),
            connection(account) as link,
            asyncio.TaskGroup() as tasks,
        ):
            election = Election(connection=link, namespace=namespace, name=FULL_NAME, terms=TERMS)
            taking_part = tasks.create_task(election.run())
            refusal = f'cannot {right[2]} resource "leases"'
            while refusal not in caplog.text:  # noqa: ASYNC110  # a log
                await asyncio.sleep(TERMS.retry)
            assert not election.leading
            whole = granted(namespace, without=None, account=namespace)
            await asyncio.to_thread(apply, testbed, whole)
            await election.won.wait()
            taking_part.cancel()

    asyncio.run(run())
