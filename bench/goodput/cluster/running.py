"""Runs one training in a cluster, disturbs it once, and returns what it has shown."""

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.goodput.cluster.faults import BY_NAME, NONE
from bench.goodput.cluster.job import Job
from bench.goodput.cluster.manifests import Spot
from bench.goodput.cluster.pods import Pods, counted
from bench.goodput.cluster.results import Cell, Result
from bench.goodput.cluster.systems import WORKLOAD, System
from bench.goodput.cluster.verdict import Verdict
from bench.goodput.cluster.watch import Watch
from bench.goodput.workloads import Task
from bench.machine import load
from tests.cluster.jobs import PYTHON
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import PROJECT


def measured(
    cell: Cell, system: System, node: Node, folder: Path, *, is_quiet: bool = False
) -> Result:
    """Run a training, and return what it has shown.

    Args:
        cell: the run.
        system: the system of the cell.
        node: the node.
        folder: an empty folder for its ledger, checkpoints and logs.
        is_quiet: whether nothing else runs on the machine.
    """
    before = load()
    disturbance = None if cell.fault == NONE else BY_NAME[cell.fault]
    run = f"goodput-{secrets.token_hex(4)}"
    task = Task(WORKLOAD, folder, system.every)
    spot = Spot(namespace=run, run=run, folder=folder, task=task)
    job = Job(cluster=node.plane.cluster, system=system, spot=spot)
    with (
        _namespace(job.cluster, run),
        system.serve(node, folder, run),
        Pods(job.cluster, run, folder / "pods") as pods,
        _running(job),
    ):
        began = time.monotonic()
        watch = Watch(job, disturbance)
        _follow(watch)
        story = watch.close()
        log = "" if watch.is_done else job.log()
        replaced, restarted = counted(pods.lines(), expected=WORKLOAD.work.ranks)
    steps = story.steps
    return Result(
        cell=cell,
        verdict=Verdict.of(story, WORKLOAD),
        pods=replaced,
        containers=restarted,
        start=steps[0].ended - began if steps else None,
        load_before=before,
        load_after=load(),
        is_quiet=is_quiet,
        log=log,
    )


def _follow(watch: Watch) -> None:
    """Follow a training until it is done, or needs a person."""
    while not watch.is_done and not watch.is_stuck(time.monotonic()):
        watch.tick()


@contextlib.contextmanager
def _namespace(cluster: Cluster, name: str) -> Iterator[None]:
    cluster.kubectl("create", "namespace", name)
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def _running(job: Job) -> Iterator[None]:
    job.apply()
    try:
        yield
    finally:
        job.end()


def warm_up() -> None:
    """Compile the modules that pods import: they see them, but cannot write there."""
    modules = "accelerate, runtime, torch.distributed.run, bench.goodput.training"
    env = {name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([PYTHON, "-c", f"import {modules}"], check=True, cwd=PROJECT, env=env)
