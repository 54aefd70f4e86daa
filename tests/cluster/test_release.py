"""The product as it is shipped: its images, built here, and its chart, on a real node."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import CHART, PYTHON, Job, real_job
from tests.cluster.testbed import images
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import PROJECT
from tests.cluster.testbed.processes import run

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("crd"),
]

OPERATOR = "testbed.local/acceleratedjob-operator"
RUNTIME = "testbed.local/acceleratedjob-runtime:v1"
CERTIFICATES = Path("/etc/ssl/certs")
OWNED = "deployments,pods,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings"


def build(node: Node, target: str, reference: str, folder: Path) -> None:
    """Build a target of the Dockerfile on a small Debian, without a daemon, for the node."""
    storage = ("--root", folder / "storage", "--runroot", folder / "run")
    run("buildah", *storage, "pull", "--quiet", f"docker-archive:{images.base()}")
    # A package index may be behind this machine's own authority.
    trust = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro")
    pip = ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    passed = [flag for name in pip if name in os.environ for flag in ("--env", name)]
    bases = ("--build-arg", f"BASE={images.BASE}", "--build-arg", f"TORCH={images.BASE}")
    flags = ("--isolation", "chroot", "--network", "host", "--pull=never", "--target", target)
    run("buildah", *storage, "build", *flags, *trust, *passed, *bases, "-t", reference, PROJECT)
    archive = folder / "image.tar"
    run("buildah", *storage, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}")
    node.import_image(archive)


def owned(cluster: Cluster) -> list[str]:
    """What there is of the release, in every namespace."""
    mine = ("--all-namespaces", "--selector", "app.kubernetes.io/instance=aj", "--output=name")
    return cluster.kubectl("get", OWNED, *mine).split()


@pytest.fixture
def release(node: Node, namespace: str, tmp_path: Path) -> Iterator[str]:
    """The operator, installed by helm from an image of its own; the namespace it serves."""
    cluster, place = node.plane.cluster, f"{namespace}-operator"
    build(node, "operator", f"{OPERATOR}:v1", tmp_path)
    helm = (node.plane.programs / "helm", "--kubeconfig", cluster.kubeconfig, "--namespace", place)
    values = (f"image.repository={OPERATOR}", "image.tag=v1", "image.pullPolicy=Never")
    own = (f"namespaces={{{namespace}}}", "crd.install=false")
    settings = [flag for value in (*values, *own) for flag in ("--set", value)]
    run(*helm, "install", "aj", CHART, "--create-namespace", "--wait", "--timeout=120s", *settings)
    assert {name.split("/")[0] for name in owned(cluster)} >= {"deployment.apps", "pod"}
    yield namespace
    run(*helm, "uninstall", "aj", "--wait")
    # Helm does not wait for the pods of what it deletes.
    gone = ("--all", "--for=delete", "--timeout=60s")
    cluster.kubectl("wait", "pods", "--namespace", place, *gone)
    assert owned(cluster) == []
    cluster.kubectl("delete", "namespace", place, "--wait=false")


def test_the_installed_operator_trains_the_digits(node: Node, release: str) -> None:
    job = Job(node.plane.cluster, release)
    job.apply(real_job(release, [PYTHON, "train.py"]))
    job.wait("condition=Complete", seconds=240)
    assert job.get(".status.failures") == ""
    assert float(job.kubectl("logs", "digits-0-0").split()[-1]) >= 0.95


def test_a_training_image_starts_a_module_by_the_launcher(
    node: Node, job: Job, tmp_path: Path
) -> None:
    build(node, "runtime", RUNTIME, tmp_path)
    command = ["python3", "-m", "runtime.launch", "-m", "platform"]
    manifest = real_job(job.namespace, command)
    container = {"name": "trainer", "image": RUNTIME, "command": command}
    manifest["spec"]["template"]["spec"] = {"containers": [container]}
    job.apply(manifest)
    job.wait("condition=Complete", seconds=60)
    assert job.get(".status.failures") == ""
    assert job.kubectl("logs", "digits-0-1").startswith("Linux")
