"""A new control plane for each turn.

It is that of the tests, with fake nodes on which a pod runs until it is deleted.
"""

import contextlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.operator.process import Process, find
from tests.cluster.jobs import install_crd
from tests.cluster.testbed import beds, kwok
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.holding import is_served
from tests.cluster.testbed.places import Place
from tests.cluster.testbed.processes import Components, wait_until

NODES = 8
NAMESPACE = "bench"
STAGES = Path(__file__).parent / "pods.yaml"
_numbers = itertools.count()


def version(module: Path, name: str) -> str:
    """Return the version of a module in the go.mod of a folder."""
    (found,) = re.findall(rf"{re.escape(name)} (v\S+)", (module / "go.mod").read_text())
    return str(found)


@dataclass(frozen=True, slots=True)
class Bed:
    """A new control plane.

    Attributes:
        plane: the control plane.
        folder: a temporary folder for logs and files of the turn.
    """

    plane: ControlPlane
    folder: Path

    def component(self, name: str) -> Process:
        """Return the process of a component of the control plane."""
        return find(self.plane.programs / "kube", name)

    @property
    def busy(self) -> list[Process]:
        """The processes that must be idle before a measurement."""
        names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        return [self.component(name) for name in names]


@contextlib.contextmanager
def fresh() -> Iterator[Bed]:
    """Start a control plane with fake nodes, the CRD of jobs, and a namespace."""
    place = Place(f"bench-{os.getpid()}-{next(_numbers)}")
    with (
        tempfile.TemporaryDirectory() as folder,
        beds.control_plane(place, fake_nodes=0) as plane,
        _fake_nodes(plane),
    ):
        install_crd(plane.cluster)
        plane.cluster.kubectl("create", "namespace", NAMESPACE)
        yield Bed(plane, Path(folder))
    gone = "the end of the control plane"
    wait_until(lambda: not is_served(place), what=gone, seconds=240)


@contextlib.contextmanager
def _fake_nodes(plane: ControlPlane) -> Iterator[None]:
    plane.cluster.kubectl("apply", "--filename=-", stdin=kwok.nodes(NODES))
    components = Components(plane.place)
    command = kwok.command(plane.programs / "kwok", plane.kubeconfig)
    components.start("kwok", [*command, "--config", STAGES])
    ready = ("wait", "--for=condition=Ready", "--timeout=1s", "node", "--selector", kwok.LABEL)
    try:
        components.wait_until(
            lambda: plane.cluster.answers(*ready), what="the fake nodes", seconds=240
        )
        yield
        components.check()
    finally:
        components.stop()
