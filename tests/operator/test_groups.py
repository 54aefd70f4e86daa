"""How pods are kept together: what each gang's scheduler or queue reads on them."""

import asyncio

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Ref
from acceleratedjob.controller.execute import execute
from acceleratedjob.errors import NotFound, Refused
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manifests.podgroup import pod_group
from acceleratedjob.planner.actions import CreatePodGroup, DeletePodGroup
from tests.attempts import gang_of, pod_of
from tests.operator.builders import CONTAINER, UID, spec

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def template(**fields: object) -> Manifest:
    return {"template": {"spec": {"containers": [CONTAINER]} | fields}}


def difference(scheduling: Manifest, **fields: object) -> Manifest:
    """What a job's scheduling adds to a pod: to labels, annotations and spec."""
    made = pod_of(spec(scheduling=scheduling, **fields), attempt=2, index=1)
    plain = pod_of(spec(**fields), attempt=2, index=1)
    parts = {
        "labels": (made["metadata"]["labels"], plain["metadata"]["labels"]),
        "annotations": (made["metadata"]["annotations"], plain["metadata"]["annotations"]),
        "spec": (made["spec"], plain["spec"]),
    }
    return {
        part: {key: value for key, value in mine.items() if theirs.get(key) != value}
        for part, (mine, theirs) in parts.items()
    }


@pytest.mark.parametrize(
    ("scheduling", "fields", "labels", "annotations", "added"),
    [
        pytest.param({}, {}, {}, {}, {}, id="none: nothing"),
        pytest.param(
            {"gang": "volcano"},
            {},
            {},
            {"scheduling.k8s.io/group-name": "digits"},
            {"schedulerName": "volcano"},
            id="Volcano",
        ),
        pytest.param(
            {"gang": "coscheduling"},
            {},
            {"scheduling.x-k8s.io/pod-group": "digits"},
            {},
            {"schedulerName": "scheduler-plugins-scheduler"},
            id="scheduler-plugins",
        ),
        pytest.param(
            {"gang": "volcano"},
            template(schedulerName="volcano-2"),
            {},
            {"scheduling.k8s.io/group-name": "digits"},
            {},
            id="a scheduler by a name of the cluster's own",
        ),
        pytest.param(
            {"gang": "kueue", "queue": "team"},
            {"replicas": 3},
            {
                "kueue.x-k8s.io/queue-name": "team",
                "kueue.x-k8s.io/pod-group-name": "digits-2",
            },
            {
                "kueue.x-k8s.io/pod-group-total-count": "3",
                "kueue.x-k8s.io/retriable-in-group": "false",
                "kueue.x-k8s.io/pod-group-pod-index-label": "accelerated.dev/replica-index",
            },
            {},
            id="Kueue: a group for each attempt",
        ),
        pytest.param(
            {"priorityClassName": "high"}, {}, {}, {}, {"priorityClassName": "high"}, id="a class"
        ),
    ],
)
def test_what_a_gang_says_on_its_pods(
    scheduling: Manifest,
    fields: Manifest,
    labels: Manifest,
    annotations: Manifest,
    added: Manifest,
) -> None:
    expected = {"labels": labels, "annotations": annotations, "spec": added}
    assert difference(scheduling, **fields) == expected


def test_an_exclusive_job_keeps_its_pods_together_and_others_away() -> None:
    theirs = {"labelSelector": {}, "topologyKey": "x"}
    given = {"nodeAffinity": {"a": 1}, "podAffinity": {REQUIRED: [theirs]}}
    job = spec(scheduling={"exclusiveTopologyKey": "rack"}, **template(affinity=given))
    made = pod_of(job, attempt=2, index=0)
    attempt = {"accelerated.dev/job-uid": UID, "accelerated.dev/attempt": "2"}
    assert made["metadata"]["labels"].items() >= attempt.items()
    own = {
        "labelSelector": {"matchLabels": attempt},
        "topologyKey": "rack",
    }
    other = {
        "namespaceSelector": {},
        "labelSelector": {
            "matchExpressions": [
                {"key": "accelerated.dev/job-uid", "operator": "Exists"},
                {"key": "accelerated.dev/job-uid", "operator": "NotIn", "values": [UID]},
            ]
        },
        "topologyKey": "rack",
    }
    assert made["spec"]["affinity"] == {
        "nodeAffinity": {"a": 1},
        "podAffinity": {REQUIRED: [theirs, own]},
        "podAntiAffinity": {REQUIRED: [other]},
    }
    assert job.template["spec"]["affinity"] == given


@pytest.mark.parametrize(
    ("fields", "version", "wishes"),
    [
        pytest.param(
            {"scheduling": {"gang": "volcano", "queue": "team", "priorityClassName": "high"}},
            "scheduling.volcano.sh/v1beta1",
            {"minMember": 2, "queue": "team", "priorityClassName": "high"},
            id="Volcano",
        ),
        pytest.param(
            {"scheduling": {"gang": "coscheduling", "priorityClassName": "high"}},
            "scheduling.x-k8s.io/v1alpha1",
            {"minMember": 2},
            id="scheduler-plugins",
        ),
        pytest.param(
            {
                "scheduling": {"gang": "volcano"},
                "replicas": 4,
                "elastic": {"minReplicas": 3, "maxReplicas": 8},
            },
            "scheduling.volcano.sh/v1beta1",
            {"minMember": 3},
            id="an elastic job starts with as few as are of use",
        ),
    ],
)
def test_a_pod_group(fields: Manifest, version: str, wishes: Manifest) -> None:
    made = pod_group(spec(**fields))
    assert made is not None
    assert (made["apiVersion"], made["kind"], made["spec"]) == (version, "PodGroup", wishes)
    assert made["metadata"]["ownerReferences"][0]["uid"] == UID


@pytest.mark.parametrize("gang", ["none", "kueue"])
def test_others_have_no_pod_group(gang: str) -> None:
    queue = {"queue": "q"} if gang == "kueue" else {}
    assert pod_group(spec(scheduling={"gang": gang} | queue)) is None


def with_group(replicas: int) -> JobSpec:
    return spec(replicas=replicas, scheduling={"gang": "volcano"})


def test_the_group_of_a_job_that_was_changed_while_suspended_is_made_anew() -> None:
    async def scenario() -> list[Manifest]:
        cluster = LocalCluster()
        made = []
        for replicas in (2, 2, 3):
            found = await execute(cluster, gang_of(with_group(replicas)), CreatePodGroup(), time="")
            assert found is not None
            made.append((found["metadata"]["uid"], found["spec"]["minMember"]))
        assert (made[0], made[2][1]) == (made[1], 3)
        for _ in range(2):
            removal = DeletePodGroup("volcano")
            assert await execute(cluster, gang_of(with_group(3)), removal, time="") is None
        return cluster.objects("PodGroup")

    assert asyncio.run(scenario()) == []


@pytest.mark.parametrize(
    ("before", "after", "is_made_anew"),
    [
        pytest.param({"queue": "a"}, {"queue": "a"}, False, id="nothing"),
        pytest.param({"queue": "a"}, {"queue": "b"}, True, id="its queue"),
        pytest.param({"queue": "a"}, {}, True, id="it has no queue any more"),
        pytest.param({"priorityClassName": "a"}, {}, True, id="it has no class any more"),
        pytest.param({}, {}, False, id="nothing, and Volcano has filled the queue in"),
    ],
)
def test_a_group_says_no_more_than_the_job_does_now(
    before: Manifest, after: Manifest, is_made_anew: bool
) -> None:
    async def scenario() -> list[str]:
        cluster, uids = LocalCluster(), []
        for wishes in (before, after):
            job = spec(scheduling={"gang": "volcano"} | wishes)
            found = await execute(cluster, gang_of(job, 0), CreatePodGroup(), time="")
            assert found is not None
            cluster.change(Ref.of(found), lambda it: it["spec"].setdefault("queue", "default"))
            uids.append(found["metadata"]["uid"])
        return uids

    first, second = asyncio.run(scenario())
    assert (first != second) == is_made_anew


class Unreadable(LocalCluster):
    """A cluster in which the operator has no right to PodGroups."""

    async def read(self, ref: Ref) -> Manifest:
        if ref.kind.startswith("PodGroup"):
            raise Refused('User "operator" cannot get resource "podgroups" (403)', final=False)
        return await super().read(ref)


def test_who_may_not_see_groups_has_none_to_remove() -> None:
    removal = DeletePodGroup("volcano")
    assert asyncio.run(execute(Unreadable(), gang_of(spec(), 0), removal, time="")) is None


def test_a_group_of_the_same_name_that_is_not_ours_is_left_alone() -> None:
    async def scenario() -> None:
        cluster = LocalCluster()
        theirs = pod_group(with_group(2))
        assert theirs is not None
        theirs["metadata"]["ownerReferences"] = []
        await cluster.create(theirs)
        with pytest.raises(Refused, match="is not this job's"):
            await execute(cluster, gang_of(with_group(2)), CreatePodGroup(), time="")
        await execute(cluster, gang_of(with_group(2)), DeletePodGroup("volcano"), time="")
        assert await cluster.read(Ref.of(theirs))

    asyncio.run(scenario())


class WithoutGroups(LocalCluster):
    """A cluster in which no gang scheduler is installed."""

    async def create(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "PodGroup":
            raise NotFound("404 page not found")
        return await super().create(manifest)


def test_a_cluster_without_the_scheduler_says_what_to_install() -> None:
    with pytest.raises(
        Refused, match=r"install Volcano .* or choose another spec\.scheduling\.gang"
    ):
        asyncio.run(execute(WithoutGroups(), gang_of(with_group(2)), CreatePodGroup(), time=""))
