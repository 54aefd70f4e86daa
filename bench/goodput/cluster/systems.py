"""What is compared: the controllers, and how a training is set up for each."""

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from acceleratedjob.api.names import REPLICA_INDEX_LABEL, Manifest
from bench.goodput.cluster import jobset, manifests
from bench.goodput.cluster.manifests import Spot
from bench.goodput.workloads import WORKLOADS
from tests.cluster.operators import operator_on_node
from tests.cluster.testbed.node import Node

_STEP = WORKLOADS["step"]
WORKLOAD = replace(_STEP, work=replace(_STEP.work, epochs=4))  # what all of them train
EVERY = 50  # steps between two checkpoints of the script for Accelerate
_COMPLETION_INDEX = "JOB_COMPLETION_INDEX"
_COMPLETION_LABEL = "batch.kubernetes.io/job-completion-index"
Serve = Callable[[Node, Path, str], AbstractContextManager[None]]  # (node, folder, namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A controller, and the training that it keeps going.

    Attributes:
        name: its name.
        title: its title on the page.
        make: returns the manifests of a training.
        kind: the kind of the job, as kubectl takes it.
        variable: the environment variable with the index of a pod.
        label: the label with the index of a pod.
        serve: runs the controller inside a block, if it is not part of Kubernetes.
        every: the steps between two checkpoints, where the script decides that.
        script: the module that the pods run; it decides the bits of the weights.
    """

    name: str
    title: str
    make: Callable[[Spot], list[Manifest]]
    kind: str
    variable: str = _COMPLETION_INDEX
    label: str = _COMPLETION_LABEL
    serve: Serve = lambda _node, _folder, _namespace: contextlib.nullcontext()
    every: int = EVERY
    script: str = manifests.THEIRS


def _operator(node: Node, folder: Path, namespace: str) -> AbstractContextManager[None]:
    return operator_on_node(node, folder / "operator.log", namespace)


def _job_set(node: Node, folder: Path, _namespace: str) -> AbstractContextManager[None]:
    return jobset.serve(node.plane, folder)


_ours = functools.partial(
    System,
    kind="acceleratedjob",
    variable="ACCELERATEDJOB_REPLICA_INDEX",
    label=REPLICA_INDEX_LABEL,
    serve=_operator,
    every=0,
    script=manifests.OURS,
)
SYSTEMS = (
    _ours(name="ours", title="AcceleratedJob", make=manifests.accelerated_job),
    _ours(
        name="ours-pods",
        title="AcceleratedJob, inPlaceRestarts 0",
        make=functools.partial(manifests.accelerated_job, inPlaceRestarts=0),
    ),
    System(name="indexed", title="Indexed Job", make=manifests.indexed_job, kind="job"),
    System(name="jobset", title="JobSet", make=manifests.job_set, kind="jobset", serve=_job_set),
)
BY_NAME = {one.name: one for one in SYSTEMS}
