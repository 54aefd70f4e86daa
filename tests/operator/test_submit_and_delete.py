"""`acceleratedjob submit` and `delete`: what is asked of the cluster, and what is said."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.deleting import delete
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.session import Session
from acceleratedjob.commands.source import Source
from acceleratedjob.commands.submitting import submit
from acceleratedjob.errors import ClusterError, InvalidSpec, NotFound, Refused
from acceleratedjob.kube.cluster import KubernetesCluster
from tests.operator.apiserver import ApiServer
from tests.operator.builders import job
from tests.operator.talking import answering

REF = Ref(KIND, "research", "digits")
DATA: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}}
RUNNING = {"phase": "Running", "replicas": 2}
DONE = {"phase": "Succeeded", "conditions": [{"type": "Complete", "status": "True", "reason": "X"}]}


def asked(command: Callable[[Session], Awaitable[int]], *stored: Manifest) -> ApiServer:
    """Run a command on a cluster that has objects, and return its API server."""
    api = ApiServer()

    async def run() -> None:
        for one in stored:
            await api.cluster.create(one)
        async with api.serving() as link:
            session = Session(KubernetesCluster(link, "research"), "research")
            assert await command(session) == 0

    asyncio.run(run())
    return api


def submitting(
    folder: Path, *documents: Any, dry_run: bool = False, follow: bool = False
) -> Callable[[Session], Awaitable[int]]:
    """Submit documents."""
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return partial(submit, documents=Source(str(file)).read(), dry_run=dry_run, follow=follow)


def stored(api: ApiServer, ref: Ref = REF) -> Manifest:
    return asyncio.run(api.cluster.read(ref))


@pytest.mark.parametrize(
    ("before", "said"),
    [
        pytest.param((), "AcceleratedJob digits is created", id="it is new"),
        pytest.param(
            (job(replicas=1) | {"status": RUNNING},),
            "AcceleratedJob digits is changed",
            id="it runs with another size",
        ),
        pytest.param((job(),), "AcceleratedJob digits is unchanged", id="it is there"),
    ],
)
def test_a_job_is_created_or_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: tuple[Manifest, ...], said: str
) -> None:
    api = asked(submitting(tmp_path, job()), *before)
    assert stored(api)["spec"]["replicas"] == 2
    assert capsys.readouterr().out.splitlines() == [
        said,
        "  `acceleratedjob status digits --watch` follows it",
    ]


def test_what_else_is_in_the_file_is_applied_before_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = asked(submitting(tmp_path, job(), DATA))
    assert stored(api, Ref("ConfigMap", "research", "data"))["metadata"]["name"] == "data"
    assert [path.rpartition("/")[2] for verb, path in api.requests if verb == "patch"] == [
        *("data", "digits")
    ]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "ConfigMap data is applied",
        "AcceleratedJob digits is created",
    ]


def test_a_dry_run_stores_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api = asked(submitting(tmp_path, job(), DATA, dry_run=True))
    assert api.cluster.version == 0
    assert capsys.readouterr().out.splitlines() == [
        "ConfigMap data would be applied",
        "AcceleratedJob digits would be created",
    ]


def test_what_kubectl_prints_is_submitted_without_what_the_api_server_sets(tmp_path: Path) -> None:
    printed = job() | {"status": RUNNING}
    printed["metadata"] |= {"resourceVersion": "7", "managedFields": [{}]}
    api = asked(submitting(tmp_path, printed))
    assert "status" not in stored(api)
    assert "managedFields" not in stored(api)["metadata"]


@pytest.mark.parametrize(
    ("documents", "before", "error", "sentence"),
    [
        pytest.param(
            (job(),),
            (job() | {"status": DONE},),
            Misuse,
            r"digits has finished \(Succeeded\), and does not run again",
            id="it has finished",
        ),
        pytest.param(
            (job(), DATA | {"metadata": {"name": "data", "namespace": "red"}}),
            (),
            Misuse,
            "ConfigMap data is of the namespace red, .* set -n red",
            id="another namespace",
        ),
        pytest.param(
            (job(), DATA | {"metadata": ["data"]}),
            (),
            InvalidSpec,
            "metadata.name: is required, ConfigMap without a name",
            id="no name",
        ),
        pytest.param(
            (job(), DATA | {"apiVersion": "example.com/v1"}),
            (),
            NotFound,
            "must have the kind ConfigMap of example.com/v1, and does not",
            id="a kind that is not installed",
        ),
    ],
)
def test_what_cannot_be_submitted_leaves_the_jobs_as_they_are(
    tmp_path: Path,
    documents: tuple[Manifest, ...],
    before: tuple[Manifest, ...],
    error: type[Exception],
    sentence: str,
) -> None:
    command = submitting(tmp_path, *documents)
    with pytest.raises(error, match=sentence):
        asked(command, *before)


def test_several_jobs_are_not_followed(tmp_path: Path) -> None:
    other = job()
    other["metadata"]["name"] = "mnist"
    with pytest.raises(Misuse, match="--watch follows one job"):
        asked(submitting(tmp_path, job(), other, follow=True))


def deleting(*names: str, force: bool = False) -> Callable[[Session], Awaitable[int]]:
    """Delete jobs."""
    return partial(delete, names=names, force=force)


ONCE = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
CLAIM = {"volumeClaimTemplate": {"spec": ONCE}}


@pytest.mark.parametrize(
    ("found", "force", "said"),
    [
        pytest.param(job() | {"status": DONE}, False, "digits is deleted", id="it has finished"),
        pytest.param(job() | {"status": RUNNING}, True, "digits is deleted", id="it runs, forced"),
        pytest.param(
            job(checkpoint={"uri": "s3://bucket/team", "path": "a"}),
            False,
            "digits is deleted; its checkpoints are kept: s3://bucket/team/a",
            id="checkpoints in a store",
        ),
        pytest.param(
            job(checkpoint={"volume": CLAIM, "path": "a", "reclaimPolicy": "Delete"}),
            False,
            "digits is deleted, and so is the volume of its checkpoints, /checkpoints/a",
            id="a volume that goes with it",
        ),
    ],
)
def test_a_job_is_deleted_and_what_is_kept_is_said(
    capsys: pytest.CaptureFixture[str], found: Manifest, force: bool, said: str
) -> None:
    api = asked(deleting("digits", "digits", force=force), found)
    with pytest.raises(NotFound):
        stored(api)
    assert capsys.readouterr().out.splitlines() == [said]


@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [
        pytest.param(("digits",), Misuse, "pods of digits run: .*use --force", id="it runs"),
        pytest.param(
            ("digits", "none"),
            NotFound,
            "job none not found in namespace research; `acceleratedjob status -A`",
            id="one is not there",
        ),
    ],
)
def test_what_is_not_deleted_stays(
    names: tuple[str, ...], error: type[Exception], sentence: str
) -> None:
    api = ApiServer()

    async def run() -> None:
        await api.cluster.create(job() | {"status": RUNNING})
        async with api.serving() as link:
            await deleting(*names)(Session(KubernetesCluster(link, "research"), "research"))

    with pytest.raises(error, match=sentence):
        asyncio.run(run())
    assert stored(api)["metadata"]["name"] == "digits"


def test_a_missing_right_is_named() -> None:
    api = ApiServer(forbidden={("delete", "acceleratedjobs")})

    async def run() -> None:
        await api.cluster.create(job())
        async with api.serving() as link:
            await deleting("digits")(Session(KubernetesCluster(link, "research"), "research"))

    with pytest.raises(Refused, match='cannot delete resource "acceleratedjobs"'):
        asyncio.run(run())


@pytest.mark.parametrize("what", ["list", "read", "delete", "submit"])
def test_a_cluster_without_the_crd_says_so(tmp_path: Path, what: str) -> None:
    commands: dict[str, Callable[[Session], Awaitable[Any]]] = {
        "list": Session.list,
        "read": lambda session: replace(session, name="digits").read(),
        "delete": deleting("digits"),
        "submit": submitting(tmp_path, job()),
    }

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(status=404, text="404 page not found\n")

    async def run() -> None:
        async with answering(nothing) as link:
            await commands[what](Session(KubernetesCluster(link, "research"), "research"))

    with pytest.raises(
        ClusterError, match="must have acceleratedjobs, and has not: install the CRD"
    ):
        asyncio.run(run())
