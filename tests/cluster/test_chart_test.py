"""`helm test`: its job really runs, and its script ends as the job does."""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.cli import main
from tests.cluster.charts import Release, is_hook, render
from tests.cluster.jobs import Job
from tests.cluster.operators import connection, operator, playing
from tests.cluster.testbed import kwok
from tests.cluster.testbed.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]


def made(*flags: str, **values: Any) -> tuple[dict[str, str], list[str], list[dict[str, Any]]]:
    """The environment and the command of the test's pod, and what its account is."""
    hooks = [each for each in render(*flags, **values) if is_hook(each)]
    (pod,) = (entry for entry in hooks if entry["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    return env, container["command"], [entry for entry in hooks if entry is not pod]


def test_its_replicas_find_each_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "job.yaml"
    manifest.write_text(made()[0]["JOB"])
    assert main(["run", str(manifest)]) == 0
    assert "2 replicas, the sum of ranks is 1" in capfd.readouterr().out


def credentials(release: Release, account: str, folder: Path) -> dict[str, str]:
    """What the kubelet would give a pod of a service account."""
    shown = release.cluster.kubectl("config", "view", "--raw", "--minify", "--output=json")
    (cluster,) = (entry["cluster"] for entry in json.loads(shown)["clusters"])
    (folder / "token").write_text(release.token(account))
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    host, _, port = cluster["server"].removeprefix("https://").rpartition(":")
    return {
        "CREDENTIALS": str(folder),
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
    }


@pytest.mark.usefixtures("crd", "fake_nodes")
@pytest.mark.parametrize(
    ("code", "phase"),
    [
        pytest.param(0, "Succeeded", id="a job that succeeds"),
        pytest.param(1, "Failed", id="a job that fails"),
    ],
)
def test_it_ends_as_its_job_does(
    testbed: Cluster, namespace: str, tmp_path: Path, code: int, phase: str
) -> None:
    """Its script runs here, as its own account; the pods of its job are played."""
    release, name = Release(testbed, namespace), f"{namespace}-test"
    values = {"fullnameOverride": namespace, **kwok.PLACEMENT}
    env, command, account = made("--namespace", namespace, **values)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": account})
    testbed.kubectl("apply", "--filename=-", stdin=text)
    env = os.environ | env | credentials(release, name, tmp_path)

    async def run() -> tuple[int | None, str]:
        async with connection(testbed.kubeconfig) as link:
            pipe = asyncio.subprocess.PIPE
            async with playing(link, namespace, lambda _, __: code):
                process = await asyncio.create_subprocess_exec(
                    sys.executable, *command[1:], env=env, stdout=pipe, stderr=pipe
                )
                out, err = await process.communicate()
            return process.returncode, (out + err).decode()

    with operator(testbed.kubeconfig, tmp_path / "operator.log", namespace):
        ended, told = asyncio.run(run())
    assert ended == code, told
    assert f"{namespace}/{name}: {phase}\n" in told
    left = Job(testbed, namespace).names("aj")
    assert left == ([] if code == 0 else [name])
