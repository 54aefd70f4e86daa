"""Builds and runs Kubeflow's training-operator, and makes PyTorchJobs for it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from acceleratedjob.local.process import free_port
from bench.operator.bed import NAMESPACE, Bed
from bench.operator.ways import Server, Way, has_condition, one_post, running
from tests.cluster.jobs import fake_job
from tests.cluster.testbed import binaries
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import run, wait_until

NAME = "training-operator"
MODULE = "github.com/kubeflow/training-operator"
PYTORCH_JOBS = f"/apis/kubeflow.org/v1/namespaces/{NAMESPACE}/pytorchjobs"
SOURCES = Path(__file__).parent / "go"
PATIENCE = 30.0  # seconds of a burst to observe; the rate at which it creates pods is constant
_CRD = "manifests/base/crds/kubeflow.org_pytorchjobs.yaml"
_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")  # noqa: S108  # a fixed path
# Objects that its certificate rotator needs. The configuration has no webhooks.
_PLACES = """
apiVersion: v1
kind: Namespace
metadata: {name: kubeflow}
---
apiVersion: v1
kind: Secret
metadata: {name: training-operator-webhook-cert, namespace: kubeflow}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: validator.training-operator.kubeflow.org}
webhooks: []
"""


def program(report: Callable[[str], None] = lambda _: None) -> Path:
    """Return the path of the program, which is built if it does not exist."""
    package = f"{MODULE}/cmd/training-operator.v1"
    return binaries.program(NAME, sources=SOURCES, package=package, report=report)


def definition() -> Path:
    """Return the path of the CRD of PyTorchJob in the module."""
    return binaries.made_once(binaries.built(NAME, SOURCES).with_name("pytorchjobs.yaml"), _copy)


def _copy(target: Path) -> None:
    module = run("go", "-C", SOURCES / NAME, "list", "-m", "-f", "{{.Dir}}", MODULE).strip()
    shutil.copyfile(Path(module, _CRD), target)


@contextlib.contextmanager
def _serve(bed: Bed) -> Iterator[Server]:
    _install(bed.plane.cluster)
    bed.plane.authority.sign(NAME, subject=f"/CN={NAME}")
    options = (
        "--enable-scheme=pytorchjob",  # the CRDs of other kinds are not installed
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        f"--webhook-server-port={free_port()}",
    )
    certificate, key = bed.plane.authority.certificate(NAME), bed.plane.authority.key(NAME)
    with (
        _mounted({"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}),
        # It is killed: on SIGTERM, it would first create its pods, and then close a channel twice.
        running(bed, NAME, [str(program()), *options], ends=False) as server,
    ):
        yield server


def _install(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--filename=-", stdin=_PLACES)
    cluster.kubectl("apply", "--server-side", "--filename", definition())
    served = ("get", "pytorchjobs.kubeflow.org")
    wait_until(lambda: cluster.answers(*served), what="the PyTorchJob's API", seconds=240)


@contextlib.contextmanager
def _mounted(files: dict[str, Path]) -> Iterator[None]:
    """Put certificates where a kubelet would mount them."""
    _CERTIFICATES.mkdir(parents=True, exist_ok=True)
    try:
        for name, file in files.items():
            shutil.copyfile(file, _CERTIFICATES / name)
        yield
    finally:
        shutil.rmtree(_CERTIFICATES.parent)


def pytorch_job(name: str, replicas: int) -> dict[str, Any]:
    """Return a PyTorchJob with the same pods: a master, and workers."""
    counts = {"Master": 1, "Worker": replicas - 1}
    template: dict[str, Any] = fake_job(NAMESPACE, name)["spec"]["template"]
    template["spec"]["containers"][0]["name"] = "pytorch"  # the name that it requires
    specs = {role: {"replicas": n, "template": template} for role, n in counts.items() if n}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"pytorchReplicaSpecs": specs},
    }


TRAINING_OPERATOR = Way(
    name=NAME,
    title=NAME,
    path=PYTORCH_JOBS,
    posts=one_post(PYTORCH_JOBS, pytorch_job),
    serve=_serve,
    is_done=has_condition("Succeeded"),
    patience=PATIENCE,
    rounds=1,
)
