"""What /healthz and /readyz say of an operator whose way to the API server fails."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceleratedjob.api.names import Phase
from acceleratedjob.manager.server import NEW
from tests.cluster.jobs import CRD, Job, fake_job, install_crd
from tests.cluster.members import LONG, SECONDS, Member, elected, member, one_leads
from tests.cluster.proxy import Proxy, proxy
from tests.cluster.testbed import beds
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import Place
from tests.cluster.testbed.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

IMPATIENT = "--watch-silence=6s"
REFUSED = 'accelerated_job_api_errors_total{code="connection"}'


@pytest.fixture
def behind(
    crd: str, kubeconfig: Path, namespace: str, tmp_path: Path
) -> Iterator[tuple[Member, Proxy]]:
    """An operator, and the proxy that it reaches the API server through."""
    assert crd
    with proxy(kubeconfig) as way:
        through, log = way.kubeconfig(kubeconfig, tmp_path), tmp_path / "operator.log"
        with member(through, log, namespace, IMPATIENT) as process:
            yield process, way


def test_a_watch_that_hangs_is_not_alive_and_one_that_goes_on_is_again(
    behind: tuple[Member, Proxy], namespace: str
) -> None:
    operator, way = behind
    operator.wait("/readyz", 200)
    assert operator.wait("/healthz", 200) == "ok\n"
    way.stop()
    all_of_them = {
        f"/api/v1/namespaces/{namespace}/pods",
        f"/api/v1/namespaces/{namespace}/services",
        f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
        f"/apis/accelerated.dev/v1alpha1/namespaces/{namespace}/acceleratedjobs",
    }

    def dead() -> set[str]:
        status, told = operator.page("/healthz")
        return {line.partition(":")[0] for line in told.splitlines() if status == 503}

    wait_until(lambda: dead() == all_of_them, what="all watches dead", seconds=SECONDS)
    way.forward()
    operator.wait("/healthz", 200)


def test_data_that_is_lost_on_the_way_is_noticed(behind: tuple[Member, Proxy]) -> None:
    operator, way = behind
    operator.wait("/readyz", 200)
    way.drop()
    operator.wait("/healthz", 503)
    way.forward()
    operator.wait("/healthz", 200)


def test_a_quiet_watch_and_an_api_server_that_refuses_are_no_reason_to_end(
    behind: tuple[Member, Proxy],
) -> None:
    """Each try is refused, which is an answer: a new process would fare no better.

    The last of so many tries is far later than the silence that is allowed. Whoever stands still is
    silent as well, until he goes on.
    """
    operator, way = behind
    operator.wait("/readyz", 200)
    way.refuse()
    wait_until(lambda: operator.value(REFUSED) >= 40, what="forty refusals", seconds=2 * SECONDS)
    operator.wait("/healthz", 200)
    way.forward()
    operator.wait("/readyz", 200)


def test_nobody_is_ready_before_all_is_listed(
    crd: str, kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    assert crd
    with proxy(kubeconfig) as way:
        way.stop()
        through = way.kubeconfig(kubeconfig, tmp_path)
        with member(through, tmp_path / "operator.log", namespace) as operator:
            told = operator.wait("/readyz", 503)
            assert "/pods: not listed yet" in told
            assert "/acceleratedjobs: not listed yet" in told
            assert operator.page("/healthz") == (200, "ok\n")
            way.forward()
            operator.wait("/readyz", 200)


@pytest.fixture
def own_plane(programs: None) -> Iterator[ControlPlane]:
    """A control plane that this test may break."""
    assert programs is None
    with beds.control_plane(Place(f"own-{os.getpid()}"), fake_nodes=1) as plane:
        install_crd(plane.cluster)
        yield plane


@pytest.mark.timeout(600)
def test_two_operators_outlive_a_restart_of_the_api_server(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    job = Job(own_plane.cluster, "default")
    with contextlib.ExitStack() as stack:
        flags = elected("default", *LONG)
        members = [
            stack.enter_context(
                member(own_plane.kubeconfig, tmp_path / f"{name}.log", "default", *flags)
            )
            for name in ("first", "second")
        ]
        for each in members:
            each.wait("/readyz", 200)
        leader = one_leads(members)
        own_plane.restart_api_server()
        assert leader.value(REFUSED) > 0
        job.apply(fake_job("default"))
        job.wait("jsonpath={.status.phase}=Running", seconds=SECONDS)
        assert one_leads(members) is leader
        for each in members:
            each.wait("/healthz", 200)
            assert each.end() == 0


def test_an_operator_outlives_the_deletion_of_its_crd(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    job, kubectl = Job(own_plane.cluster, "default"), own_plane.cluster.kubectl
    with member(own_plane.kubeconfig, tmp_path / "operator.log", "default") as operator:
        operator.wait("/readyz", 200)
        job.apply(fake_job("default"))
        job.wait("jsonpath={.status.phase}=Running", seconds=SECONDS)
        kubectl("delete", "crd", CRD.stem)
        wait_until(lambda: jobs(operator) == 0, what="no job", seconds=SECONDS)
        install_crd(own_plane.cluster)
        job.apply(fake_job("default", name="second"))
        job.wait_for("second", "jsonpath={.status.phase}=Running", seconds=SECONDS)
        assert jobs(operator) == 1
        assert operator.page("/healthz") == (200, "ok\n")
        assert operator.end() == 0
    assert "Traceback" not in (tmp_path / "operator.log").read_text()


def jobs(operator: Member) -> float:
    """How many jobs an operator knows."""
    return sum(
        operator.value(f'accelerated_job_jobs{{phase="{phase}"}}') for phase in (NEW, *Phase)
    )
