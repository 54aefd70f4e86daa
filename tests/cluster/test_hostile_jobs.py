"""Any number of hostile jobs: the operator's loop is never blocked, and other jobs are served.

`ACCELERATEDJOB_HOSTILE=10000` asks for more than the few hundred that are made every time.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.errors import ClusterError
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from tests.cluster.jobs import Job, fake_job
from tests.cluster.operators import connection
from tests.cluster.testbed.cluster import Cluster
from tests.operator import hostile

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.usefixtures("crd", "fake_nodes"),
    pytest.mark.timeout(3600),
]

COUNT = int(os.environ.get("ACCELERATEDJOB_HOSTILE", "200"))
SIDE_BY_SIDE = 4  # as much as the API server of the test bed answers in time
BLOCKED = 1.0  # seconds
SCRIPT = Path(__file__).parent / "scripts" / "measured_operator.py"


@contextlib.contextmanager
def measured(kubeconfig: Path, namespace: str, folder: Path, name: str) -> Iterator[None]:
    """An operator that takes part in an election, and tells how long its loop was blocked."""
    flags = ("--namespace", namespace, "--leader-elect", "--lease-namespace", namespace)
    command = [sys.executable, str(SCRIPT), str(folder / f"{name}.json"), *flags]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        env = os.environ | {"KUBECONFIG": str(kubeconfig)}
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0, log.read_text()[-3000:]


async def create(link: Connection, namespace: str, bodies: Iterator[bytes]) -> Counter[str]:
    """Create jobs; how many the API server has taken."""
    found = Counter[str]()

    async def some() -> None:
        for body in bodies:
            try:
                await link.request("POST", collection(names.KIND, namespace), body)
            except ClusterError as error:
                found[type(error).__name__] += 1
            else:
                found["taken"] += 1

    await asyncio.gather(*(some() for _ in range(SIDE_BY_SIDE)))
    return found


async def stored(link: Connection, namespace: str) -> AsyncIterator[Manifest]:
    """All jobs, those beyond the bounds without their specs."""
    async for page in KubernetesCluster(link, namespace).list(names.KIND):
        for job in page.objects:
            yield job


async def until_all_are_told(link: Connection, namespace: str) -> int:
    """How many jobs there are, once each has a status that says what it is."""
    async with asyncio.timeout(240 + COUNT / 5):
        while True:
            told = [hostile.told(job) async for job in stored(link, namespace)]
            if all(told):
                return len(told)
            await asyncio.sleep(1)


def served(job: Job, name: str) -> float:
    """Seconds until a healthy job runs."""
    began = time.monotonic()
    job.apply(fake_job(job.namespace, name=name))
    job.wait_for(name, "jsonpath={.status.phase}=Running")
    return time.monotonic() - began


def blocked(folder: Path, name: str) -> dict[str, float]:
    """For how long an operator's loop was blocked at most."""
    found: dict[str, float] = json.loads((folder / f"{name}.json").read_text())
    return found


def test_hostile_jobs_hold_up_no_other(
    testbed: Cluster, namespace: str, tmp_path: Path, report: Callable[[str], None]
) -> None:
    job, kubeconfig = Job(testbed, namespace), testbed.kubeconfig

    async def attack() -> Counter[str]:
        async with connection(kubeconfig) as link:
            making = asyncio.create_task(create(link, namespace, hostile.jobs(namespace, COUNT)))
            took = await asyncio.to_thread(served, job, "healthy")
            found = await making
            found["told"] = await until_all_are_told(link, namespace)
        report(f"a healthy job ran after {took:.1f} s while {COUNT} hostile ones were made")
        return found

    with measured(kubeconfig, namespace, tmp_path, "first"):
        served(job, "before")
        holder = job.kubectl("get", "lease", "--output=jsonpath={.items[*].spec.holderIdentity}")
        found = asyncio.run(attack())
        again = job.kubectl("get", "lease", "--output=jsonpath={.items[*].spec.holderIdentity}")
    with measured(kubeconfig, namespace, tmp_path, "second"):
        took = served(job, "after")
    report(f"{dict(found)}; a healthy job ran {took:.1f} s after a restart beside them")
    for name in ("first", "second"):
        seconds = blocked(tmp_path, name)
        report(f"{name} operator: its loop was blocked for at most {seconds} s")
        assert seconds["cpu"] < BLOCKED
    assert holder == again != ""
    assert found["taken"] > COUNT // 2
