"""The manifests of a training of two pods, for each controller; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceleratedjob.api.names import Manifest
from bench.goodput.ledger import PATH
from bench.goodput.processes import RUN
from bench.goodput.systems.torchrun import OWN_STORE, TIMER
from bench.goodput.workloads import RANKS, Task
from tests.cluster.jobs import PYTHON, real_job
from tests.cluster.testbed.places import CLUSTER_DOMAIN, PROJECT

NAME = "goodput"  # of the job, whatever its kind
OURS = "bench.goodput.scripts.train_ours"
THEIRS = "bench.goodput.scripts.train_accelerate"
RESTARTS = 100  # more than a run needs
STALLS = 10  # seconds; `spec.stallDeadlineSeconds`
_PORT = 29400  # torchrun's default
_VOLUME = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a training runs.

    Attributes:
        namespace: its namespace.
        run: the name of the run, which no other one has.
        folder: the folder of its ledger and checkpoints, which both pods share.
        task: what is trained.
    """

    namespace: str
    run: str
    folder: Path
    task: Task


def accelerated_job(spot: Spot, **policy: int) -> list[Manifest]:
    """Return an AcceleratedJob.

    Args:
        spot: where it runs.
        policy: fields of `spec.failurePolicy`; the others have their defaults.
    """
    place = {"path": str(spot.folder / "checkpoints"), "type": "DirectoryOrCreate"}
    job = real_job(
        spot.namespace,
        [PYTHON, "-m", "runtime.launch", "-m", OURS],
        replicas=RANKS,
        checkpoint={"volume": {"hostPath": place}},
        failurePolicy=policy,
        stallDeadlineSeconds=STALLS,
    )
    job["metadata"]["name"] = NAME
    _equip(job["spec"]["template"]["spec"], spot, {})
    return [job]


def indexed_job(spot: Spot) -> list[Manifest]:
    """Return an Indexed Job and the headless Service by which its pods find each other."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": NAME},
        },
    }
    pod = torchrun_pod(spot, f"{NAME}-0")
    pod |= {"subdomain": NAME, "restartPolicy": "OnFailure"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME},
        "spec": {
            "completionMode": "Indexed",
            "podReplacementPolicy": "Failed",  # no two pods with the same name at a time
            **job_spec(pod, backoff_limit=RESTARTS),
        },
    }
    return [service, job]


def job_set(spot: Spot) -> list[Manifest]:
    """Return a JobSet, whose fields without a value are set by its webhook."""
    workers = "workers"
    pod = torchrun_pod(spot, f"{NAME}-{workers}-0-0")
    template = {"spec": job_spec(pod, backoff_limit=0)}  # the set restarts, not its Job
    found = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": NAME},
        "spec": {
            "network": {"enableDNSHostnames": True},
            "failurePolicy": {"maxRestarts": RESTARTS},
            "replicatedJobs": [{"name": workers, "replicas": 1, "template": template}],
        },
    }
    return [found]


def job_spec(pod: Manifest, *, backoff_limit: int) -> Manifest:
    """Return the spec of a Job of two pods.

    Args:
        pod: the spec of its pods.
        backoff_limit: how many pods and containers may fail.
    """
    counts = {"completions": RANKS, "parallelism": RANKS, "backoffLimit": backoff_limit}
    return {**counts, "template": {"spec": pod}}


def torchrun_pod(spot: Spot, host: str) -> Manifest:
    """Return the spec of a pod that runs torchrun with one rank.

    Args:
        spot: where it runs.
        host: the host name of pod 0, where the ranks meet.
    """
    # The full name: pod 0 knows that it is its own before the DNS server has it.
    address = f"{host}.{NAME}.{spot.namespace}.svc.{CLUSTER_DOMAIN}"
    flags = {
        "nnodes": RANKS,
        "nproc-per-node": 1,
        "max-restarts": RESTARTS,
        "rdzv-backend": "c10d",
        "rdzv-endpoint": f"{address}:{_PORT}",
        "rdzv-id": spot.run,
        "shutdown-timeout": 2,
    }
    words = [f"--{name}={value}" for name, value in flags.items()]
    command = [PYTHON, "-m", "torch.distributed.run", *words, "-m", THEIRS]
    pod: Manifest = real_job(spot.namespace, command)["spec"]["template"]["spec"]
    _equip(pod, spot, {**OWN_STORE, **TIMER})
    return pod


def _equip(pod: Manifest, spot: Spot, more: Mapping[str, str]) -> None:
    """Give a pod the folder of the run, and the variables of the task."""
    env = {
        **spot.task.env,
        PATH: str(spot.folder / "ledger"),
        RUN: spot.run,
        "PYTHONPATH": f"{PROJECT}:{PROJECT}/operator",
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    source: dict[str, Any] = {"path": str(spot.folder), "type": "Directory"}
    pod["volumes"].append({"name": _VOLUME, "hostPath": source})
    (container,) = pod["containers"]
    container["env"] += [{"name": name, "value": value} for name, value in env.items()]
    container["volumeMounts"].append({"name": _VOLUME, "mountPath": str(spot.folder)})
