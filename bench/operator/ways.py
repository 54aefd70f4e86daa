"""The ways to create the pods of a job: the controllers, and the manifests of their jobs."""

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
_PORT = "--http-port"  # a flag that an older version of the operator may not have
_END = 20.0  # the maximum seconds for a controller to shut down


@dataclass(frozen=True, slots=True)
class Server:
    """A running controller.

    Attributes:
        process: the process.
        port: the port of its metrics; None if it has none.
    """

    process: Process
    port: int | None = None

    def queue_delay(self) -> float | None:
        """Return the p99 of the queue delay, in seconds; None without metrics."""
        if self.port is None:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return quantile(answer.read().decode(), _DELAY, 0.99)


Job = Callable[[str, int], dict[str, Any]]  # (name, number of pods) -> manifest of the job
Serving = Callable[[Bed], AbstractContextManager[Server | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to create the pods of a job.

    Attributes:
        name: the name of the way.
        title: the title on the page.
        path: the path of the collection of its jobs.
        posts: returns the requests that create a job, given its name and number of pods.
        serve: runs the controller inside a block.
        is_done: whether a job has succeeded.
        patience: the maximum seconds for which a burst is observed; None for no limit.
        rounds: the maximum number of rounds.
    """

    name: str
    title: str
    path: str
    posts: Callable[[str, int], list[Post]]
    serve: Serving
    is_done: Callable[[Any], bool] = lambda _: True
    patience: float | None = None
    rounds: int = 99


def one_post(path: str, job: Job) -> Callable[[str, int], list[Post]]:
    """Return a function that creates a job with one request."""
    return lambda name, replicas: [(path, encoded(job(name, replicas)))]


def accelerated_job(name: str, replicas: int) -> dict[str, Any]:
    """Return an AcceleratedJob without a backoff."""
    backoff = {"backoff": {"initialSeconds": 0}}
    return fake_job(NAMESPACE, name, replicas=replicas, failurePolicy=backoff)


def indexed_job(name: str, replicas: int) -> dict[str, Any]:
    """Return an Indexed Job with the same pods."""
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
    """Return requests for an Indexed Job and the headless Service that its ranks need."""
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
    """Return requests for the pods of the operator, without an owner that does not exist."""
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
    """Return a function that tests whether a job has one of some conditions."""

    def has(job: Any) -> bool:
        conditions = job.get("status", {}).get("conditions") or ()
        return any(c["type"] in types and c["status"] == "True" for c in conditions)

    return has


@contextlib.contextmanager
def running(
    bed: Bed, name: str, command: list[str], *, port: int | None = None, ends: bool = True
) -> Iterator[Server]:
    """Run a controller in another process inside the block.

    Args:
        bed: the control plane.
        name: the name of its log.
        command: the command that starts it.
        port: the port of its metrics.
        ends: whether it gets SIGTERM and must exit with 0; otherwise it is killed.
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
        raise RuntimeError(f"{name} must exit with 0, got {code}")


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
