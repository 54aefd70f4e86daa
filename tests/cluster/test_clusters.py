"""What `cluster.Cluster` promises, asked of the one in memory and of a real API server alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from acceleratedjob.api.names import JOB_NAME_LABEL, KIND, Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Change, Changed, Cluster, Gone, Listed, Ref
from acceleratedjob.errors import AlreadyExists, Conflict, NotFound
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manifests.network import is_as_made, network_policy, service
from tests.attempts import gang_of, pod_of
from tests.cluster.jobs import fake_job
from tests.cluster.operators import connection

Case = Callable[[Cluster, str], Awaitable[None]]  # of a cluster and a namespace in it
SECONDS = 240  # for what takes one


@pytest.fixture(params=["local", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def holds(request: pytest.FixtureRequest) -> Callable[[Case], None]:
    """Run a case on one of the clusters."""
    if request.param == "local":
        return lambda case: asyncio.run(_within_time(case(LocalCluster(), "research")))
    for needed in ("crd", "fake_nodes"):
        request.getfixturevalue(needed)
    kubeconfig, namespace = map(request.getfixturevalue, ("kubeconfig", "namespace"))

    async def connected(case: Case) -> None:
        async with connection(kubeconfig) as link:
            await case(KubernetesCluster(link, namespace), namespace)

    return lambda case: asyncio.run(_within_time(connected(case)))


async def _within_time(case: Awaitable[None]) -> None:
    async with asyncio.timeout(SECONDS):
        await case


async def a_job(cluster: Cluster, namespace: str) -> Manifest:
    """A job that the cluster has stored."""
    return await cluster.create(fake_job(namespace))


def service_of(job: Manifest) -> Manifest:
    """The job's Service, as the operator would make it."""
    return service(JobSpec.from_manifest(job))


def policy_of(job: Manifest) -> Manifest:
    """The job's NetworkPolicy, as the operator would make it."""
    return network_policy(JobSpec.from_manifest(job))


def first_pod(job: Manifest, **spec: Any) -> Manifest:
    """The job's first pod, as the operator would make it."""
    made = pod_of(JobSpec.from_manifest(job), attempt=0, index=0)
    return made | {"spec": made["spec"] | spec}


def is_empty(change: Change) -> bool:
    """Whether a change is a list of nothing, as of whatever version."""
    return isinstance(change, Listed) and not change.objects


def uid_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])


def test_what_is_created_can_be_read_with_uid_and_version(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        assert job["metadata"].keys() >= {"uid", "resourceVersion", "creationTimestamp"}
        assert job["metadata"]["generation"] == 1
        assert await cluster.read(Ref.of(job)) == job

    holds(case)


def test_what_is_created_does_what_it_was_made_for(holds: Callable[[Case], None]) -> None:
    """Whatever an API server adds, it is not taken for a change of somebody's."""

    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        for made in (service_of(job), policy_of(job)):
            assert is_as_made(await cluster.create(made))

    holds(case)


def test_a_name_is_taken_once(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        first = await cluster.create(service_of(job))
        with pytest.raises(AlreadyExists, match="digits"):
            await cluster.create(service_of(job))
        assert uid_of(await cluster.read(Ref.of(first))) == uid_of(first)

    holds(case)


def test_a_rendered_pod_is_as_one_that_is_not(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = JobSpec.from_manifest(await a_job(cluster, namespace))
        rendered = gang_of(job, 0).pod(1)
        made = await cluster.create_pod(rendered)
        stored = await cluster.read(rendered.ref)
        for name in ("name", "uid", "labels", "ownerReferences"):
            assert made["metadata"][name] == stored["metadata"][name]
        wanted = pod_of(job, attempt=0, index=1)
        assert stored["spec"]["containers"][0]["env"] == wanted["spec"]["containers"][0]["env"]
        with pytest.raises(AlreadyExists, match="digits-0-1"):
            await cluster.create_pod(rendered)

    holds(case)


def test_nothing_is_read_where_nothing_is(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        with pytest.raises(NotFound, match="digits"):
            await cluster.read(Ref("Pod", namespace, "digits-0-0"))
        with pytest.raises(NotFound, match="digits"):
            await cluster.delete(Ref("Pod", namespace, "digits-0-0"), uid="1")

    holds(case)


def test_only_the_object_that_was_meant_is_deleted(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(service_of(await a_job(cluster, namespace)))
        with pytest.raises(NotFound):
            await cluster.delete(Ref.of(made), uid="another's")
        assert await cluster.read(Ref.of(made)) == made

    holds(case)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(service_of, id="a Service"),
        pytest.param(policy_of, id="a NetworkPolicy"),
        pytest.param(
            lambda job: first_pod(job, nodeSelector={"no": "node"}), id="a pod on no node"
        ),
    ],
)
def test_what_nothing_keeps_goes_at_once(
    holds: Callable[[Case], None], make: Callable[[Manifest], Manifest]
) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(make(await a_job(cluster, namespace)))
        assert await cluster.delete(Ref.of(made), uid=uid_of(made)) is None
        with pytest.raises(NotFound):
            await cluster.read(Ref.of(made))

    holds(case)


def test_a_job_is_deleted_only_as_itself(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        with pytest.raises(NotFound):
            await cluster.delete(Ref.of(job), uid="another's")
        assert await cluster.delete(Ref.of(job), uid=uid_of(job)) is None
        with pytest.raises(NotFound):
            await cluster.read(Ref.of(job))

    holds(case)


def test_a_pod_on_a_node_is_given_its_grace(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        made = await cluster.create(first_pod(job, nodeName="kwok-0"))
        left = await cluster.delete(Ref.of(made), uid=uid_of(made), grace_seconds=7)
        assert left is not None
        assert uid_of(left) == uid_of(made)
        assert left["metadata"]["deletionGracePeriodSeconds"] == 7
        assert left["metadata"]["deletionTimestamp"]

    holds(case)


def test_a_status_is_replaced_whole_and_the_spec_stays(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        for status in ({"phase": "Pending", "restarts": 1}, {"phase": "Running"}):
            version = job["metadata"]["resourceVersion"]
            uid = uid_of(job)
            job = await cluster.write_status(Ref.of(job), status, uid=uid, resource_version=version)
            assert job["status"] == status
        assert job["metadata"]["generation"] == 1
        assert (await cluster.read(Ref.of(job)))["status"] == {"phase": "Running"}

    holds(case)


def test_a_status_that_was_decided_on_an_older_job_is_not_written(
    holds: Callable[[Case], None],
) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        seen = {"uid": uid_of(job), "resource_version": job["metadata"]["resourceVersion"]}
        await cluster.write_status(Ref.of(job), {"phase": "Pending"}, **seen)
        with pytest.raises(Conflict):
            await cluster.write_status(Ref.of(job), {"phase": "Running"}, **seen)
        await cluster.delete(Ref.of(job), uid=uid_of(job))
        with pytest.raises(NotFound):
            await cluster.write_status(Ref.of(job), {"phase": "Running"}, **seen)

    holds(case)


async def next_change(changes: AsyncIterator[Change], kind: type[Change]) -> Change:
    """The next change of a kind: there may be others' writes between two of ours."""
    async for change in changes:
        if isinstance(change, kind):
            return change
    raise AssertionError("a watch must not end")


@pytest.mark.parametrize("make", [service_of, policy_of])
def test_a_watch_lists_then_tells_each_change_of_what_carries_the_label(
    holds: Callable[[Case], None], make: Callable[[Manifest], Manifest]
) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        ours = make(job)
        foreign = ours | {"metadata": ours["metadata"] | {"name": "foreign", "labels": {}}}
        await cluster.create(foreign)
        changes = cluster.watch(ours["kind"])
        assert is_empty(await anext(changes))
        made = await cluster.create(ours)
        changed = await next_change(changes, Changed)
        assert isinstance(changed, Changed)
        assert uid_of(changed.object) == uid_of(made)
        assert changed.object["metadata"]["labels"][JOB_NAME_LABEL] == "digits"
        await cluster.delete(Ref.of(made), uid=uid_of(made))
        gone = await next_change(changes, Gone)
        assert isinstance(gone, Gone)
        assert uid_of(gone.object) == uid_of(made)
        later = cluster.watch(ours["kind"])
        assert is_empty(await anext(later))

    holds(case)


def test_a_watch_that_begins_late_lists_what_is_there(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(service_of(await a_job(cluster, namespace)))
        listed = await anext(cluster.watch("Service"))
        assert isinstance(listed, Listed)
        assert [uid_of(entry) for entry in listed.objects] == [uid_of(made)]
        assert {entry["kind"] for entry in listed.objects} == {"Service"}

    holds(case)


def test_a_jobs_kind_survives_every_answer(holds: Callable[[Case], None]) -> None:
    async def case(cluster: Cluster, namespace: str) -> None:
        job = await a_job(cluster, namespace)
        assert job["kind"] == KIND
        assert (await cluster.read(Ref.of(job)))["kind"] == KIND

    holds(case)
