"""Measure how long a job waits when the leader ends, by SIGKILL or SIGTERM.

    python -m bench.takeover [--runs 3] [--terms short]

Two operators serve a namespace of a real API server. The leader gets a signal, and a job is created
at that moment. The time is until its first pod exists, which the other operator creates.
"""

import argparse
import asyncio
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from acceleratedjob.api.names import KIND
from acceleratedjob.kube.cluster import collection
from tests.cluster.jobs import fake_job, install_crd
from tests.cluster.members import Member, elected, member, one_leads
from tests.cluster.operators import connection, list_objects
from tests.cluster.testbed import beds
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import Place

POLL = 0.01  # seconds
SHORT = ("--lease-duration=5s", "--renew-deadline=4s", "--retry-period=500ms")
TERMS = {"default": (), "short": SHORT}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


async def wait_for_pod(plane: ControlPlane, namespace: str, leader: Member, how: int) -> float:
    """Signal the leader, create a job, and return the seconds until its first pod exists."""
    async with connection(plane.kubeconfig) as link:
        leader.process.send_signal(how)
        began = time.perf_counter()
        path = collection(KIND, namespace)
        await link.request("POST", path, fake_job(namespace, "late", replicas=1))
        while not await list_objects(link, "Pod", namespace):  # noqa: ASYNC110  # no event to await
            await asyncio.sleep(POLL)
        return time.perf_counter() - began


def measure(plane: ControlPlane, namespace: str, terms: tuple[str, ...], how: int) -> float:
    """Measure one takeover, in a new namespace."""
    plane.cluster.kubectl("create", "namespace", namespace)
    flags = elected(namespace, *terms)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        logs = [Path(folder) / f"{name}.log" for name in ("first", "second")]
        members = [
            stack.enter_context(member(plane.kubeconfig, log, namespace, *flags)) for log in logs
        ]
        for each in members:
            each.wait("/readyz", 200)
        return asyncio.run(wait_for_pod(plane, namespace, one_leads(members), how))


def main() -> None:
    """Measure, and print a line for each signal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--terms", choices=TERMS, default="default")
    given = parser.parse_args()
    with beds.control_plane(Place("bench-takeover"), fake_nodes=1) as plane:
        install_crd(plane.cluster)
        for how in SIGNALS:
            seconds = [
                measure(plane, f"{how.name.lower()}{run}", TERMS[given.terms], how)
                for run in range(given.runs)
            ]
            shown = f"{statistics.median(seconds):.1f} s ({min(seconds):.1f}..{max(seconds):.1f})"
            print(f"{how.name}: first pod after {shown}, {given.runs} runs", flush=True)


if __name__ == "__main__":
    main()
