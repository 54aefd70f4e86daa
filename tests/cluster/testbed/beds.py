"""A test bed as its users see it: a control plane with fake nodes and, if asked, a real node."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.testbed import binaries, holding, node
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import Place
from tests.cluster.testbed.processes import TestbedFailed


def prepare(*, report: Callable[[str], None]) -> None:
    """Have the programs at hand, building what is missing; may take minutes, the first time."""
    for name in binaries.PACKAGES:
        binaries.program(name, report=report)


@contextmanager
def control_plane(
    place: Place, *, fake_nodes: int, watch_cache: bool = True
) -> Iterator[ControlPlane]:
    """Have a control plane inside the block, shared with all who ask for the same place."""
    flags = () if watch_cache else ("--no-watch-cache",)
    with holding.hold(place, (*_serve_plane(place, fake_nodes), *flags)):
        yield ControlPlane(place)


@contextmanager
def real_node(plane: ControlPlane) -> Iterator[node.Node]:
    """Have a real node in a control plane that is held."""
    node.require()
    with holding.hold(plane.place.node, _serve_node(plane.place)):
        yield node.Node(plane)


def keep_up(place: Place, *, fake_nodes: int, with_node: bool) -> None:
    """Start a test bed that stays until `bring_down`."""
    holding.keep(place, _serve_plane(place, fake_nodes))
    if with_node:
        node.require()
        holding.keep(place.node, _serve_node(place))


def bring_down(place: Place) -> None:
    """End a test bed, the node first."""
    holding.release(place.node)
    holding.release(place)


def exports(place: Place) -> str:
    """Lines for a shell that is to use a test bed.

    Raises:
        TestbedFailed: it is not up.
    """
    if not place.ready.exists():
        raise TestbedFailed(f"the test bed {place.name!r} must be up: run `up` first")
    plane = ControlPlane(place)
    lines = (
        f"export KUBECONFIG={shlex.quote(str(plane.kubeconfig))}",
        f"export PATH={shlex.quote(str(plane.programs))}:$PATH",
    )
    return "\n".join((*lines, ""))


def _serve_plane(place: Place, fake_nodes: int) -> tuple[str, ...]:
    return ("--name", place.name, "serve-control-plane", "--kwok", str(fake_nodes))


def _serve_node(place: Place) -> tuple[str, ...]:
    return ("--name", place.name, "serve-node")
