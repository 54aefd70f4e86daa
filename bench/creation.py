"""How fast a job's pods come into being, and how many writes it takes, against a real API server.

    python -m bench.creation [--pods 64 512] [--runs 3]

Each shape (one large job, many jobs of 8) is made three ways in the same run: by the operator, as
Indexed Jobs by the controller manager with raised limits, and by plain POSTs of the same pods, 64
side by side. The nodes are kwok's, so that nothing but the control plane is measured.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceleratedjob.api import COMPONENT, KIND, Manifest
from acceleratedjob.kube.connection import Connection
from acceleratedjob.kube.objects import collection
from acceleratedjob.pods import pod
from acceleratedjob.spec import JobSpec
from tests.cluster.jobs import Job, fake_job, install_crd
from tests.cluster.operators import connection, end_pod, list_objects, operator
from tests.cluster.testbed import beds
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import Place

FAKE_NODES = 8
SMALL = 8  # pods of a small job
POLL = 0.01  # seconds between two counts
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Shape:
    """So many jobs of so many pods each."""

    jobs: int
    replicas: int

    @property
    def pods(self) -> int:
        """How many there are in all."""
        return self.jobs * self.replicas

    def __str__(self) -> str:
        return f"{self.jobs} x {self.replicas}"

    def manifests(self, namespace: str) -> list[Manifest]:
        """The jobs, as their author writes them."""
        names = (f"job{number}" for number in range(self.jobs))
        return [fake_job(namespace, name, replicas=self.replicas) for name in names]


async def by_operator(link: Connection, namespace: str, shape: Shape) -> None:
    """Create AcceleratedJobs, and let the operator do the rest."""
    await post(link, collection(KIND, namespace), shape.manifests(namespace))


async def by_job_controller(link: Connection, namespace: str, shape: Shape) -> None:
    """Create Indexed Jobs of the same pods."""
    await post(
        link,
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        [indexed_job(manifest) for manifest in shape.manifests(namespace)],
    )


async def by_posts(link: Connection, namespace: str, shape: Shape) -> None:
    """Create the operator's pods themselves: as fast as this API server takes them."""
    pods = []
    for manifest in shape.manifests(namespace):
        manifest["metadata"]["uid"] = "none"
        spec = JobSpec.from_manifest(manifest)
        pods += [pod(spec, attempt=0, index=index) for index in range(shape.replicas)]
    for made in pods:
        del made["metadata"]["ownerReferences"]  # there is no owner: they would be collected
    await post(link, collection("Pod", namespace), pods)


Way = Callable[[Connection, str, Shape], Coroutine[Any, Any, None]]
WAYS: dict[str, Way] = {
    "operator": by_operator,
    "indexed job": by_job_controller,
    "raw posts": by_posts,
}


def indexed_job(manifest: Manifest) -> Manifest:
    """The Indexed Job of the same pods."""
    pods = manifest["spec"]["replicas"]
    template = manifest["spec"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": manifest["metadata"],
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            "template": template,
        },
    }


async def post(link: Connection, path: str, manifests: Sequence[Manifest]) -> None:
    """Create objects side by side."""
    await asyncio.gather(*(link.request("POST", path, manifest) for manifest in manifests))


async def count(link: Connection, namespace: str) -> int:
    """How many pods there are, without reading them."""
    path = collection("Pod", namespace)
    page: dict[str, Any] = await link.request("GET", path, params={"limit": "1"})
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


async def until(link: Connection, namespace: str, pods: int) -> None:
    """Wait until there are so many pods."""
    while await count(link, namespace) != pods:  # noqa: ASYNC110  # another process' state
        await asyncio.sleep(POLL)


@contextlib.contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, which is gone with all that is in it at the end."""
    name = f"bench-{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=300s")


async def rate(cluster: Cluster, log: Path, shape: Shape, way: Way) -> float:
    """Pods per second, from the first request until the last pod exists."""
    config = cluster.kubeconfig
    with fresh_namespace(cluster) as namespace:
        async with connection(config) as link, connection(config) as eye:
            with operator(config, log, namespace):
                await settled(link, namespace)
                began = time.perf_counter()
                async with asyncio.TaskGroup() as group:  # so that a refused request ends the wait
                    group.create_task(way(link, namespace, shape))
                    group.create_task(until(eye, namespace, shape.pods))
                return shape.pods / (time.perf_counter() - began)


async def settled(link: Connection, namespace: str) -> None:
    """Wait until the operator serves the namespace: a job of one pod has its pod."""
    path = collection(KIND, namespace)
    await link.request("POST", path, fake_job(namespace, "first", replicas=1))
    await until(link, namespace, 1)
    await link.request("DELETE", f"{path}/first")
    await until(link, namespace, 0)


async def writes(cluster: Cluster, log: Path) -> dict[str, int]:
    """What one job of 8 pods costs in writes, from its creation to Succeeded."""
    before = await requests(cluster)
    with fresh_namespace(cluster) as namespace:
        async with connection(cluster.kubeconfig) as link:
            with operator(cluster.kubeconfig, log, namespace):
                await train(link, Job(cluster, namespace, "job0"))
            events = await list_objects(link, "Event", namespace)
        after = await requests(cluster)
    ours = sum(event["source"].get("component") == COMPONENT for event in events)
    return {name: after[name] - before[name] for name in after} | {"events": ours}


async def train(link: Connection, job: Job) -> None:
    """Take a small job from its creation to Succeeded."""
    await by_operator(link, job.namespace, Shape(1, SMALL))
    await asyncio.to_thread(job.wait, "jsonpath={.status.phase}=Running")
    for name in job.names("pods"):
        await end_pod(link, job.namespace, name, 0)
    await asyncio.to_thread(job.wait, "condition=Complete")


WRITES = {  # what to count -> how the API server's own metrics label it
    "pods created": {'resource="pods"', 'verb="POST"', 'subresource=""'},
    "pods deleted": {'resource="pods"', 'verb="DELETE"'},
    "services created": {'resource="services"', 'verb="POST"'},
    "status writes": {'resource="acceleratedjobs"', 'subresource="status"', 'verb="PATCH"'},
    "other writes to the job": {'resource="acceleratedjobs"', 'subresource=""', 'verb="PATCH"'},
}


async def requests(cluster: Cluster) -> dict[str, int]:
    """The API server's count of each kind of write since its start."""
    text = await asyncio.to_thread(cluster.kubectl, "get", "--raw", "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
    return {
        name: sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in lines
            if labels <= set(line[line.index("{") + 1 : line.rindex("}")].split(","))
        )
        for name, labels in WRITES.items()
    }


async def measure(cluster: Cluster, log: Path, sizes: Sequence[int], runs: int) -> None:
    """Print a line for each shape, as it is measured."""
    cost = await writes(cluster, log)
    say(f"writes for a job of {SMALL} pods: {', '.join(f'{n} {name}' for name, n in cost.items())}")
    say(f"pods per second, median of {runs}:")
    say(" ".join(f"{name:>12}" for name in ("jobs x pods", *WAYS)) + "   of raw posts")
    for shape in (Shape(*pair) for size in sizes for pair in ((1, size), (size // SMALL, SMALL))):
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for _, (name, way) in itertools.product(range(runs), WAYS.items()):
            found[name].append(await rate(cluster, log, shape, way))
        medians = {name: statistics.median(rates) for name, rates in found.items()}
        columns = " ".join(f"{median:12.0f}" for median in medians.values())
        say(f"{shape!s:>12} {columns}   {medians['operator'] / medians['raw posts']:.2f}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure on a test bed of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    text = "pods in all, one size or more (default: 64 256 512)"
    parser.add_argument("--pods", type=int, nargs="+", default=[64, 256, 512], help=text)
    parser.add_argument("--runs", type=int, default=3, help="of each (default: %(default)s)")
    options = parser.parse_args()
    beds.prepare(report=say)
    with (
        beds.control_plane(Place("bench"), fake_nodes=FAKE_NODES) as plane,
        tempfile.TemporaryDirectory() as folder,
    ):
        install_crd(plane.cluster)
        log = Path(folder, "operator.log")
        asyncio.run(measure(plane.cluster, log, options.pods, options.runs))


if __name__ == "__main__":
    main()
