"""Several operators: one works, another takes over, whatever ends or stops the first."""

import contextlib
import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import Job, fake_job
from tests.cluster.members import LONG, SECONDS, SHORT, Member, elected, member, one_leads
from tests.cluster.proxy import Proxy, recorder
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.processes import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.usefixtures("crd", "fake_nodes"),
]

JOBS, REPLICAS = 4, 16
EXIT_LEASE_LOST = 3


@contextlib.contextmanager
def pair(
    plane: ControlPlane, folder: Path, namespace: str, *terms: str
) -> Iterator[tuple[Member, Member, Proxy]]:
    """The leader of one namespace, a ready standby, and what the leader's requests pass through."""
    flags = elected(namespace, *terms)
    with recorder(plane) as way:
        through = way.kubeconfig(plane.kubeconfig, folder)
        with member(through, folder / "first.log", namespace, *flags) as leader:
            one_leads([leader])
            log = folder / "second.log"
            with member(plane.kubeconfig, log, namespace, *flags) as standby:
                standby.wait("/readyz", 200)
                yield leader, standby, way


def create_jobs(job: Job) -> None:
    jobs = [fake_job(job.namespace, f"job{number}", replicas=REPLICAS) for number in range(JOBS)]
    job.apply({"apiVersion": "v1", "kind": "List", "items": jobs})


def wait_until_creating(job: Job, way: Proxy) -> None:
    """Let a job's first pod be asked for; the others are only after its answer, which is late."""
    way.delay(0.2)
    create_jobs(job)
    creating = functools.partial(creations, way, job.namespace)
    wait_until(lambda: creating() > 0, what="a first pod", seconds=SECONDS)


def creations(way: Proxy, namespace: str) -> int:
    """How many pods were asked for."""
    asked = f"POST /api/v1/namespaces/{namespace}/pods?"
    return sum(request.startswith(asked) for request in way.requests)


def check_that_all_run(job: Job) -> None:
    """Every job runs in its first attempt, with its own pods and no other."""
    running = ("--for=jsonpath={.status.phase}=Running", f"--timeout={SECONDS}s")
    job.kubectl("wait", "aj", "--all", *running)
    expected = {f"job{number}-0-{index}" for number in range(JOBS) for index in range(REPLICAS)}
    assert set(job.names("pods")) == expected
    assert set(job.names("services")) == {f"job{number}" for number in range(JOBS)}
    told = job.kubectl("get", "aj", "--output=jsonpath={.items[*].status.restarts}")
    assert told.split() == ["0"] * JOBS


def test_after_kill_9_of_the_leader_nothing_is_lost_and_nothing_made_twice(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    job = Job(control_plane.cluster, namespace)
    with pair(control_plane, tmp_path, namespace, *SHORT) as (leader, standby, way):
        wait_until_creating(job, way)
        leader.end(signal.SIGKILL)
        one_leads([standby])
        check_that_all_run(job)


def test_a_leader_that_is_asked_to_end_hands_over_in_the_middle_of_its_work(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The lease would last ten minutes: who takes over in one has been handed it."""
    job = Job(control_plane.cluster, namespace)
    with pair(control_plane, tmp_path, namespace, *LONG) as (leader, standby, way):
        wait_until_creating(job, way)
        assert leader.end() == 0
        one_leads([standby])
        check_that_all_run(job)
        assert standby.end() == 0
    lease = ("get", f"lease/acceleratedjob-operator.{namespace}", "--output=jsonpath={.spec}")
    assert '"holderIdentity":""' in job.kubectl(*lease)


def writes(requests: list[str]) -> list[str]:
    return [line for line in requests if not line.startswith("GET ")]


def test_a_standby_knows_all_and_writes_nothing(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    job, flags = Job(control_plane.cluster, namespace), elected(namespace, *LONG)
    with recorder(control_plane) as first, recorder(control_plane) as second:
        through = [each.kubeconfig(control_plane.kubeconfig, tmp_path) for each in (first, second)]
        with member(through[0], tmp_path / "first.log", namespace, *flags) as leader:
            one_leads([leader])
            with member(through[1], tmp_path / "second.log", namespace, *flags) as standby:
                standby.wait("/readyz", 200)
                create_jobs(job)
                check_that_all_run(job)
                standby.wait("/healthz", 200)
                assert not standby.leads
        assert creations(first, namespace) == JOBS * REPLICAS
        assert writes(second.requests) == []
        watched = {line.partition("?")[0] for line in second.requests if "watch=true" in line}
        kinds = {"acceleratedjobs", "pods", "services", "networkpolicies"}
        assert {path.rpartition("/")[2] for path in watched} == kinds


def test_a_leader_that_stood_still_while_another_took_over_ends_and_writes_no_more(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    job = Job(control_plane.cluster, namespace)
    with pair(control_plane, tmp_path, namespace, *SHORT) as (leader, standby, way):
        wait_until_creating(job, way)
        leader.process.send_signal(signal.SIGSTOP)
        one_leads([standby])
        check_that_all_run(job)
        before = len(way.requests)
        assert leader.end(signal.SIGCONT) == EXIT_LEASE_LOST
        assert writes(way.requests[before:]) == []
        check_that_all_run(job)


def test_operators_of_different_namespaces_do_not_wait_for_each_other(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    flags = elected(namespace, *LONG)
    with (
        member(control_plane.kubeconfig, tmp_path / "a.log", namespace, *flags) as first,
        member(control_plane.kubeconfig, tmp_path / "b.log", "default", *flags) as second,
    ):
        for each in (first, second):
            one_leads([each])
