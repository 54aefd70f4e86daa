"""Fixtures that give a test a real cluster: one test bed for the whole run, whatever its workers.

With `ACCELERATEDJOB_TEST_CLUSTER=existing` the tests use the cluster of `KUBECONFIG` instead.
Where a test bed cannot be had, the tests skip and say why; on CI (`CI=true`) they fail.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cluster.jobs import Job, install_crd
from tests.cluster.operators import operator
from tests.cluster.testbed import beds, binaries, kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.node import Node, require
from tests.cluster.testbed.places import Place
from tests.cluster.testbed.processes import TestbedUnavailable

FAKE_NODES = 4
Kubectl = Callable[..., str]
_HERE = Path(__file__).parent
_FIRST_START = 3600  # seconds; building from source takes minutes, and an image as well


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups, also for `pytest tests/cluster`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of the node on one worker, and let the first test wait for a build."""
    is_slow = not all(map(binaries.is_at_hand, binaries.PACKAGES))
    for item in items:
        if item.path.is_relative_to(_HERE) and item.get_closest_marker("node"):
            item.add_marker(pytest.mark.xdist_group("node"))
        if item.path.is_relative_to(_HERE) and is_slow:
            item.add_marker(pytest.mark.timeout(_FIRST_START))


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Tell a person at once, past pytest's capture, what takes minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")

    def write(line: str) -> None:
        if capture and terminal:  # a worker has no terminal
            with capture.global_and_fixture_disabled():
                terminal.write_line(line)

    return write


@pytest.fixture(scope="session")
def programs(report: Callable[[str], None]) -> None:
    """The test bed's programs are at hand."""
    try:
        beds.prepare(report=report)
    except TestbedUnavailable as reason:
        _unavailable(reason)


@pytest.fixture(scope="session")
def control_plane(programs: None) -> Iterator[ControlPlane]:  # noqa: ARG001
    """The test bed's own control plane, shared by every worker of this run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
    with beds.control_plane(Place(f"run-{run}"), fake_nodes=FAKE_NODES) as plane:
        yield plane


@pytest.fixture(scope="session")
def testbed(request: pytest.FixtureRequest) -> Cluster:
    """A cluster with fake nodes: the test bed's, or the one that is there."""
    if _has_existing_cluster():
        return Cluster(Path(os.environ["KUBECONFIG"]))
    plane: ControlPlane = request.getfixturevalue("control_plane")
    return plane.cluster


@pytest.fixture(scope="session")
def fake_nodes(testbed: Cluster) -> list[str]:
    """The names of the fake nodes; an existing cluster may have none."""
    found = testbed.kubectl("get", "nodes", "--selector", kwok.LABEL, "--output=name").split()
    return found or _unavailable(f"a cluster with kwok nodes (labelled {kwok.LABEL}) is needed")


@pytest.fixture(scope="session")
def node_possible() -> None:
    """This machine can have a real node, and the test bed is what the tests use."""
    if _has_existing_cluster():
        pytest.skip("an existing cluster's nodes see neither this machine's files nor its images")
    try:
        require()
    except TestbedUnavailable as reason:
        _unavailable(reason)


@pytest.fixture(scope="session")
def node(control_plane: ControlPlane, node_possible: None) -> Iterator[Node]:  # noqa: ARG001
    """A real node in the test bed: kubelet, containerd, pods with addresses and DNS."""
    with beds.real_node(control_plane) as real:
        yield real


@pytest.fixture(scope="session")
def kubeconfig(testbed: Cluster) -> Path:
    """The administrator's kubeconfig."""
    return testbed.kubeconfig


@pytest.fixture(scope="session")
def kubectl(testbed: Cluster) -> Kubectl:
    """Run kubectl: returns what it prints, raises with what it complains of."""
    return testbed.kubectl


@pytest.fixture(scope="session")
def crd(testbed: Cluster) -> str:
    """The name of the job's CRD, which the API server serves from here on."""
    return install_crd(testbed)


@contextmanager
def fresh_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of this test's own, deleted afterwards.

    Its service account is there from the beginning, before a controller makes it: without one the
    API server refuses every pod.
    """
    name = f"test-{uuid.uuid4().hex[:8]}"
    account = {"name": "default", "namespace": name}
    made = (("Namespace", {"name": name}), ("ServiceAccount", account))
    items = [{"apiVersion": "v1", "kind": kind, "metadata": about} for kind, about in made]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("apply", "--server-side", "--filename=-", stdin=text)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace, deleted after the test."""
    with fresh_namespace(kubectl) as name:
        yield name


@pytest.fixture
def job(testbed: Cluster, namespace: str, tmp_path: Path) -> Iterator[Job]:
    """A job's name in a namespace of its own, and an operator that serves it."""
    with operator(testbed.kubeconfig, tmp_path / "operator.log", namespace):
        yield Job(testbed, namespace)


def _has_existing_cluster() -> bool:
    return os.environ.get("ACCELERATEDJOB_TEST_CLUSTER") == "existing"


def _unavailable(reason: object) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"on CI a test bed must be there: {reason}")
    pytest.skip(f"NO TEST BED: {reason}")
