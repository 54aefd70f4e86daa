"""A control plane with a real node, for the runs of a command."""

import contextlib
import os
from collections.abc import Iterator

from tests.cluster.jobs import install_crd
from tests.cluster.testbed import beds
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import Place


@contextlib.contextmanager
def started() -> Iterator[Node]:
    """Start a control plane with a real node and the CRD of AcceleratedJobs."""
    place = Place(f"goodput-{os.getpid()}")
    with beds.control_plane(place, fake_nodes=0) as plane, beds.real_node(plane) as node:
        install_crd(plane.cluster)
        yield node
