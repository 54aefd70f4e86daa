"""`spec.checkpoint`: what the pods get, whose claim it is, and what users are told."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from acceleratedjob.api.checkpoint import claim_name
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.render import render
from acceleratedjob.commands.source import Source
from acceleratedjob.controller.execute import execute
from acceleratedjob.controller.field_path import field_at_fault
from acceleratedjob.errors import Held, InvalidSpec, Refused
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.process import ignored, on_this_machine
from acceleratedjob.manifests.claims import claim
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner.actions import Announce, CreateClaim, CreatePod, CreateService
from acceleratedjob.planner.planner import plan
from tests.attempts import env_of, gang_of, pod_of
from tests.contract.manifests import CLAIM, STORE, TEMPLATE
from tests.operator.builders import NOW, UID, job, pod, spec

SHARED: Manifest = {"volume": {"persistentVolumeClaim": {"claimName": "shared"}}}
NAME = "ACCELERATEDJOB_CHECKPOINT_"
OWN = f"digits-{UID}"


def once(given: Manifest, mode: str = "ReadWriteOnce", **fields: object) -> JobSpec:
    """A job whose claim one node can mount."""
    limits = {"spec": CLAIM["spec"] | {"accessModes": [mode]}}
    return spec(checkpoint=given | {"volume": {"volumeClaimTemplate": limits}}, **fields)


@pytest.mark.parametrize(
    ("given", "env"),
    [
        pytest.param(
            TEMPLATE, {"DIR": f"/checkpoints/{OWN}", "KEEP": "2"}, id="a directory of its own"
        ),
        pytest.param(
            SHARED | {"path": "team/bert", "everySteps": 100, "keep": 5},
            {"DIR": "/checkpoints/team/bert", "EVERY_STEPS": "100", "KEEP": "5"},
            id="a path is shared with the jobs that name it",
        ),
        pytest.param(
            {"uri": "s3://bucket/team/", "everySeconds": 60},
            {"DIR": f"s3://bucket/team/{OWN}", "EVERY_SECONDS": "60", "KEEP": "2"},
            id="an object store",
        ),
        pytest.param(
            STORE | {"continuous": True},
            {"DIR": f"s3://bucket/team/{OWN}", "KEEP": "2"},
            id="continuous is the runtime's default",
        ),
    ],
)
def test_what_the_runtime_is_told(given: Manifest, env: dict[str, str]) -> None:
    found = env_of(spec(checkpoint=given))
    told = {name.removeprefix(NAME): found[name] for name in found if name.startswith(NAME)}
    assert told == env


def test_without_it_nothing_is_told() -> None:
    assert not [name for name in env_of(spec()) if name.startswith(NAME)]
    assert claim(spec()) is None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.uuids(), st.none() | st.sampled_from(["x", "x/y"])),
        min_size=2,
        max_size=4,
        unique_by=lambda row: row[1],
    )
)
def test_no_two_jobs_share_a_directory_unless_both_name_it(
    rows: list[tuple[str, object, str | None]],
) -> None:
    def address(name: str, uid: object, path: str | None) -> str:
        made = job(checkpoint=SHARED | ({"path": path} if path else {}))
        made["metadata"] |= {"name": name, "uid": f"{uid}"}
        return env_of(JobSpec.from_manifest(made))[f"{NAME}DIR"]

    given = [row for row in rows if row[2] is None]
    places = [address(*row) for row in given]
    assert len(set(places)) == len(given)
    assert set(places).isdisjoint(address(*row) for row in rows if row[2] is not None)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        pytest.param(None, "30", id="Kubernetes' default"),
        pytest.param(600, "600", id="the template's"),
        pytest.param(0, "0", id="none at all"),
    ],
)
def test_the_runtime_knows_the_grace_period_of_its_pod(seconds: int | None, told: str) -> None:
    manifest = job()
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = seconds
    found = env_of(JobSpec.from_manifest(manifest))
    assert found["ACCELERATEDJOB_STOP_GRACE_SECONDS"] == told


@pytest.mark.parametrize(
    ("given", "source"),
    [
        pytest.param(
            TEMPLATE,
            {"persistentVolumeClaim": {"claimName": "digits-checkpoint"}},
            id="its own claim",
        ),
        pytest.param(SHARED, {"persistentVolumeClaim": {"claimName": "shared"}}, id="a claim"),
        pytest.param(
            {"volume": {"nfs": {"server": "s", "path": "/"}}},
            {"nfs": {"server": "s", "path": "/"}},
            id="NFS",
        ),
        pytest.param(
            {"volume": {"hostPath": {"path": "/srv"}}}, {"hostPath": {"path": "/srv"}}, id="a path"
        ),
        pytest.param(
            {"volume": {"csi": {"driver": "gcsfuse.csi.storage.gke.io"}}},
            {"csi": {"driver": "gcsfuse.csi.storage.gke.io"}},
            id="a driver",
        ),
    ],
)
def test_the_training_container_alone_mounts_the_volume(given: Manifest, source: Manifest) -> None:
    manifest = job({"volumeMounts": [{"name": "d", "mountPath": "/d"}]}, checkpoint=given)
    pod_spec = manifest["spec"]["template"]["spec"]
    pod_spec["volumes"] = [{"name": "d", "emptyDir": {}}]
    pod_spec["containers"].append({"name": "logs"})
    made = pod_of(JobSpec.from_manifest(manifest))["spec"]
    assert made["volumes"][:2] == [{"name": "d", "emptyDir": {}}, {"name": "checkpoint"} | source]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert mounts == {"d": "/d", "checkpoint": "/checkpoints", "shared-memory": "/dev/shm"}  # noqa: S108
    assert made["containers"][1] == {"name": "logs"}


def test_the_secret_becomes_environment_variables_after_the_templates() -> None:
    theirs = {"configMapRef": {"name": "c"}}
    made = pod_of(spec({"envFrom": [theirs]}, checkpoint=STORE | {"secretName": "s3"}))["spec"]
    assert made["containers"][0]["envFrom"] == [theirs, {"secretRef": {"name": "s3"}}]
    assert "checkpoint" not in {volume["name"] for volume in made["volumes"]}


@pytest.mark.parametrize(
    ("policy", "owners"),
    [
        pytest.param("Retain", [], id="kept: nobody owns it"),
        pytest.param("Delete", [UID], id="deleted: the job owns it"),
    ],
)
def test_the_claim(policy: str, owners: list[str]) -> None:
    template = CLAIM | {"metadata": {"labels": {"team": "a"}, "annotations": {"x": "y"}}}
    given = {"volume": {"volumeClaimTemplate": template}, "reclaimPolicy": policy}
    made = claim(spec(checkpoint=given))
    assert made is not None
    assert made["spec"] == CLAIM["spec"]
    metadata = made["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("digits-checkpoint", "research")
    assert metadata["labels"]["team"] == "a"
    assert metadata["annotations"] == {"x": "y"}
    assert [one["uid"] for one in metadata.get("ownerReferences", ())] == owners


def of_job(uid: str, policy: str, **metadata: object) -> Manifest:
    """The claim of a job `digits`, as it is in the cluster."""
    manifest = job(checkpoint=TEMPLATE | {"reclaimPolicy": policy})
    manifest["metadata"]["uid"] = uid
    made = claim(JobSpec.from_manifest(manifest))
    assert made is not None
    made["metadata"] |= metadata
    return made


FOREIGN: Manifest = {"labels": {}}
ENDING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


async def refused(work: Awaitable[object]) -> Refused | None:
    """What the cluster has against a write."""
    try:
        await work
    except Refused as error:
        return error
    return None


@pytest.mark.parametrize(
    ("found", "policy", "refusal"),
    [
        pytest.param(None, "Retain", None, id="there is none: it is created"),
        pytest.param(of_job(UID, "Retain"), "Retain", None, id="of an earlier attempt"),
        pytest.param(of_job("old", "Retain"), "Retain", None, id="kept by an earlier job"),
        pytest.param(of_job(UID, "Delete"), "Delete", None, id="its own, to be deleted"),
        pytest.param(of_job("old", "Retain"), "Delete", Refused, id="what was kept is not deleted"),
        pytest.param(
            of_job("old", "Delete"), "Retain", Held, id="what goes with another is waited for"
        ),
        pytest.param(of_job("old", "Delete"), "Delete", Held, id="the same"),
        pytest.param(of_job(UID, "Retain", **FOREIGN), "Retain", Refused, id="somebody else's"),
        pytest.param(of_job(UID, "Delete", **ENDING), "Delete", Held, id="its own, which ends"),
    ],
)
def test_whose_claim_is_used(
    found: Manifest | None, policy: str, refusal: type[Refused] | None
) -> None:
    wanted = spec(checkpoint=TEMPLATE | {"reclaimPolicy": policy})

    async def run() -> list[Manifest]:
        cluster = LocalCluster()
        if found is not None:
            await cluster.create(found)
        told = await refused(execute(cluster, gang_of(wanted), CreateClaim(), time=""))
        assert (None if told is None else type(told)) is refusal
        assert told is None or "PersistentVolumeClaim research/digits-checkpoint" in str(told)
        return cluster.objects("PersistentVolumeClaim")

    (kept,) = asyncio.run(run())
    if found is not None:
        assert kept["metadata"].items() >= found["metadata"].items()


def test_a_claim_is_created_before_the_pods_of_each_attempt() -> None:
    wanted = spec(checkpoint=TEMPLATE)
    first = plan(wanted, Observed(), NOW)
    assert first.steps[0] == (CreateService(), CreateClaim())
    assert isinstance(first.steps[1][0], CreatePod)
    half = Observed(status=first.status, pods=(pod(0),), service_uid="s")
    assert CreateClaim() not in [one for step in plan(wanted, half, NOW).steps for one in step]
    assert CreateClaim() not in plan(spec(checkpoint=SHARED), Observed(), NOW).steps[0]


@pytest.mark.parametrize(
    ("mode", "replicas", "warned"),
    [
        pytest.param("ReadWriteOnce", 2, True, id="two pods may be on two nodes"),
        pytest.param("ReadWriteOncePod", 2, True, id="one pod only"),
        pytest.param("ReadWriteOnce", 1, False, id="one replica is on one node"),
        pytest.param("ReadWriteMany", 2, False, id="any number of nodes"),
    ],
)
def test_a_claim_for_one_node_is_warned_of(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    replicas: int,
    warned: bool,
) -> None:
    wanted = once({}, mode, replicas=replicas)
    steps = plan(wanted, Observed(), NOW).steps
    events = [one for step in steps for one in step if isinstance(one, Announce)]
    assert [one.reason for one in events] == ["CheckpointNotShared"] * warned
    path = tmp_path / "job.yaml"
    template = {"spec": CLAIM["spec"] | {"accessModes": [mode]}}
    given = {"volume": {"volumeClaimTemplate": template}}
    path.write_text(yaml.safe_dump(job(checkpoint=given, replicas=replicas)))
    assert render(Source(str(path)), "yaml") == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: digits: the claim") == warned
    kinds = [made["kind"] for made in yaml.safe_load_all(out)]
    assert kinds == ["Service", "PersistentVolumeClaim", *["Pod"] * replicas]


@pytest.mark.parametrize(
    ("told", "field"),
    [
        pytest.param(
            "spec.volumes[0].nfs.server", "spec.checkpoint.volume.nfs.server", id="the volume's"
        ),
        pytest.param("spec.volumes[1]", "spec.template.spec.volumes[1]", id="not /dev/shm's"),
    ],
)
def test_the_field_of_the_pods_volume(told: str, field: str) -> None:
    gang = gang_of(spec(checkpoint={"volume": {"nfs": {"path": "/"}}}))
    assert field_at_fault(gang, CreatePod(0, 0), told) == field


def test_the_field_of_the_claim() -> None:
    place = field_at_fault(gang_of(spec(checkpoint=TEMPLATE)), CreateClaim(), "spec.resources")
    assert place == "spec.checkpoint.volume.volumeClaimTemplate.spec.resources"


def test_what_pods_are_created_from_includes_it() -> None:
    absent, given = spec(), spec(checkpoint=TEMPLATE)
    assert absent.fingerprint != given.fingerprint
    assert given.fingerprint != spec(checkpoint=TEMPLATE | {"everySteps": 1}).fingerprint
    assert given.fingerprint == spec(checkpoint=TEMPLATE | {"keep": 2}).fingerprint


@pytest.mark.parametrize(
    ("address", "place"),
    [
        pytest.param("/checkpoints/a/b", "/home/me/digits-checkpoint/a/b", id="a volume"),
        pytest.param("s3://bucket/a", "s3://bucket/a", id="an object store is where it is"),
    ],
)
def test_checkpoints_on_this_machine_are_beside_the_manifest(address: str, place: str) -> None:
    folder = Path("/home/me", claim_name("digits"))
    assert on_this_machine(address, folder) == place


@pytest.mark.parametrize("name", ["a..b", "a.", "-a", "S3", "a_b", "a\n", ""])
def test_a_secret_has_the_name_of_one(name: str) -> None:
    assert spec(checkpoint=STORE | {"secretName": "team.s3-0"}).checkpoint is not None
    with pytest.raises(InvalidSpec, match="secretName"):
        spec(checkpoint=STORE | {"secretName": name})


def test_what_has_no_effect_on_this_machine_is_said() -> None:
    secret = spec(checkpoint=STORE | {"secretName": "s3"})
    deleted = spec(checkpoint=TEMPLATE | {"reclaimPolicy": "Delete"})
    assert [line.split()[0] for line in ignored(secret)] == ["spec.checkpoint.secretName"]
    assert [line.split()[0] for line in ignored(deleted)] == ["spec.checkpoint.reclaimPolicy"]
    in_memory = spec(checkpoint=TEMPLATE | {"inMemory": True})
    assert [line.split()[0] for line in ignored(in_memory)] == ["spec.checkpoint.inMemory"]


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_no_path_leads_out_of_the_volume(path: str) -> None:
    try:
        made = spec(checkpoint=SHARED | {"path": path})
    except InvalidSpec:
        return
    place = Path(env_of(made)[f"{NAME}DIR"])
    assert place.is_relative_to("/checkpoints")
    assert ".." not in place.parts


def test_a_claim_ref_is_one_of_the_core_group() -> None:
    made = claim(spec(checkpoint=TEMPLATE))
    assert made is not None
    assert Ref.of(made) == Ref("PersistentVolumeClaim", "research", "digits-checkpoint")
