"""The ways to make a job's pods: whose controller, and the jobs as it takes them."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import yaml

from acceleratedjob.api.names import KIND
from acceleratedjob.kube.cluster import collection
from acceleratedjob.local.process import free_port
from bench.operator.apiserver import quantile
from bench.operator.bed import NAMESPACE, Bed
from bench.operator.client import Post, encoded
from bench.operator.process import Process
from tests.cluster.jobs import fake_job
from tests.cluster.testbed.processes import DIE_WITH_PARENT, tail

PODS = collection("Pod", NAMESPACE)
SERVICES = collection("Service", NAMESPACE)
JOBS = collection(KIND, NAMESPACE)
INDEXED_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
_DELAY = "accelerated_job_queue_delay_seconds"
_PORT = "--http-port"  # of the operator, where it has one
_END = 20.0  # seconds that a controller may take to end


@dataclass(frozen=True, slots=True)
class Server:
    """A controller that runs."""

    process: Process
    port: int | None = None  # of its metrics

    def queue_delay(self) -> float | None:
        """Seconds that a pass had to wait, at p99; None if the controller does not tell."""
        if self.port is None:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:  # our own
            return quantile(answer.read().decode(), _DELAY, 0.99)


Job = Callable[[str, int], dict[str, Any]]  # a job's name and pods -> its manifest
Serving = Callable[[Bed], AbstractContextManager[Server | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way."""

    name: str
    title: str  # on the page
    path: str  # of the collection that its jobs are in
    posts: Callable[[str, int], list[Post]]  # a job's name and pods -> how it is created
    serve: Serving
    is_done: Callable[[Any], bool] = lambda _: True  # whether a job has succeeded
    patience: float | None = None  # seconds; a burst is not followed for longer
    rounds: int = 99  # of a line, at most


def one_post(path: str, job: Job) -> Callable[[str, int], list[Post]]:
    """One request a job."""
    return lambda name, replicas: [(path, encoded(job(name, replicas)))]


def accelerated_job(name: str, replicas: int) -> dict[str, Any]:
    """As its author writes it; a failed one begins anew at once."""
    backoff = {"backoff": {"initialSeconds": 0}}
    return fake_job(NAMESPACE, name, replicas=replicas, failurePolicy=backoff)


def indexed_job(name: str, replicas: int) -> dict[str, Any]:
    """The Indexed Job of the same pods."""
    template = fake_job(NAMESPACE, name)["spec"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "completionMode": "Indexed",
            "completions": replicas,
            "parallelism": replicas,
            "template": template,
        },
    }


def with_service(name: str, replicas: int) -> list[Post]:
    """The same, and the headless Service by which its ranks find each other."""
    job = indexed_job(name, replicas)
    job["spec"]["template"]["spec"]["subdomain"] = name
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
        },
    }
    return [(SERVICES, encoded(service)), (INDEXED_JOBS, encoded(job))]


def rendered(name: str, replicas: int) -> list[Post]:
    """The operator's pods themselves; without an owner, or they would be collected."""
    bodies = (body.replace(b"any-job", name.encode()) for body in _rendered(replicas))
    return [(PODS, body) for body in bodies]


@functools.cache
def _rendered(replicas: int) -> list[bytes]:
    manifest = fake_job(NAMESPACE, "any-job", replicas=replicas)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(manifest, file)
        file.flush()
        command = [sys.executable, "-m", "acceleratedjob", "render", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pods = [m for m in yaml.load_all(text, yaml.CSafeLoader) if m["kind"] == "Pod"]
    for pod in pods:
        pod["metadata"].pop("ownerReferences", None)
    return [encoded(pod) for pod in pods]


def has_condition(*types: str) -> Callable[[Any], bool]:
    """Whether a job has one of some conditions."""

    def has(job: Any) -> bool:
        conditions = job.get("status", {}).get("conditions") or ()
        return any(c["type"] in types and c["status"] == "True" for c in conditions)

    return has


@contextlib.contextmanager
def running(
    bed: Bed, name: str, command: list[str], *, port: int | None = None, ends: bool = True
) -> Iterator[Server]:
    """A controller in a process of its own.

    Args:
        bed: that it works on.
        name: of its log.
        command: that starts it.
        port: of its metrics.
        ends: whether it is asked to end, and must end well; else it is killed.
    """
    log = bed.folder / f"{name}.log"
    env = os.environ | {"KUBECONFIG": str(bed.plane.kubeconfig)}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*DIE_WITH_PARENT, *command], env=env, stdout=output, stderr=output
        )
    try:
        yield Server(Process(child.pid), port)
        if ends:
            _end(name, child)
    except BaseException as error:
        error.add_note(f"the end of the log of {name}:\n{tail(log)}")
        raise
    finally:
        child.kill()
        child.wait()


def _end(name: str, child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGTERM)
    if code := child.wait(_END):
        raise RuntimeError(f"{name} must end with 0, got {code}")


def _operator(bed: Bed) -> AbstractContextManager[Server]:
    command = [sys.executable, "-m", "acceleratedjob", "operator", "--namespace", NAMESPACE]
    port = free_port() if _PORT in _help() else None
    return running(bed, "operator", command + ([_PORT, str(port)] if port else []), port=port)


@functools.cache
def _help() -> str:
    command = [sys.executable, "-m", "acceleratedjob", "operator", "--help"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def _controller_manager(bed: Bed) -> Iterator[Server]:
    yield Server(bed.component("kube-controller-manager"))


OPERATOR = Way(
    name="operator",
    title="AcceleratedJob",
    path=JOBS,
    posts=one_post(JOBS, accelerated_job),
    serve=_operator,
    is_done=has_condition("Complete"),
)
INDEXED_JOB = Way(
    name="indexed job",
    title="Indexed Job",
    path=INDEXED_JOBS,
    posts=one_post(INDEXED_JOBS, indexed_job),
    serve=_controller_manager,
    is_done=has_condition("Complete"),
)
WITH_SERVICE = replace(
    INDEXED_JOB,
    name="indexed job and service",
    title="Indexed Job and its Service",
    posts=with_service,
)
RAW = Way(
    name="raw posts",
    title="raw posts",
    path=PODS,
    posts=rendered,
    serve=lambda _: contextlib.nullcontext(),
)
