"""A real node on this machine, as root: containerd, kubelet, kube-proxy, CoreDNS.

All of it lives in a pid, a network and a mount namespace of its own, under one first process: when
that one dies, however it dies, the kernel ends every container, and takes back every mount, device
and packet rule. What is left is one folder and the control groups, which `holding.remove` knows.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.testbed import images, nodefiles
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.holding import serving
from tests.cluster.testbed.places import NODE_NAME, POD_NETWORK, Link, Place
from tests.cluster.testbed.processes import Components, TestbedUnavailable, run

_PROGRAMS = ("containerd", "runc", "ctr", "ip", "iptables", "conntrack", "debootstrap", "nsenter")
_START = 240.0  # seconds; takes 8 on a quiet machine
_INIT = ("env", "--ignore-signal=CHLD", "sleep", "infinity")  # so that the kernel reaps orphans


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is up, and what tests ask of it."""

    plane: ControlPlane
    name: str = NODE_NAME

    def import_image(self, archive: Path) -> None:
        """Bring an image to the node, from an archive as `docker save` writes it."""
        import_image(self.plane.place.node, archive)


def require() -> None:
    """Raise TestbedUnavailable if this machine cannot have a node."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise TestbedUnavailable("a node needs Linux and root: run the tests as root")
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing or not nodefiles.CNI_PLUGINS.is_dir():
        raise TestbedUnavailable(f"a node needs {missing}: `make test` as root installs it")


def import_image(place: Place, archive: Path) -> None:
    """Bring an image to the node of a place."""
    run("ctr", "--address", nodefiles.socket(place), "-n", "k8s.io", "images", "import", archive)


def serve(plane: ControlPlane) -> None:
    """Be the supervisor of a control plane's node until nobody needs it."""
    place = plane.place.node
    archive = images.base()
    with serving(place) as components:
        init = components.start_init("init", [*_unshare(), *_INIT])
        enter = ("nsenter", f"--target={init}", "--pid", "--net", "--mount", "--")
        _seclude(place, enter)
        _wire(plane.link, init, enter)
        nodefiles.write(plane)
        components.start(
            "containerd", [*enter, "containerd", "-c", place.folder / "containerd.toml"]
        )
        _await_containerd(components, place)
        import_image(place, archive)
        for name, command in _servants(plane).items():
            components.start(name, [*enter, *command])
        ready = ("wait", "--for=condition=Ready", f"node/{NODE_NAME}", "--timeout=1s")
        components.wait_until(
            lambda: plane.cluster.answers(*ready), what="the ready node", seconds=_START
        )


def _unshare() -> tuple[str, ...]:
    return ("unshare", "--pid", "--net", "--mount", "--mount-proc", "--fork", "--kill-child")


def _seclude(place: Place, enter: tuple[str, ...]) -> None:
    """Give the node its own /run, and send what it writes below /var into the place's folder."""
    upper, work = place.folder / "var", place.folder / "var.work"
    upper.mkdir()
    work.mkdir()
    layers = f"lowerdir=/var,upperdir={upper},workdir={work}"
    run(*enter, "mount", "-t", "overlay", "overlay", "-o", layers, "/var")
    run(*enter, "mount", "-t", "tmpfs", "tmpfs", "/run")
    run(*enter, "mount", "--make-rshared", "/")
    for cgroup in place.cgroups():
        cgroup.mkdir()


def _wire(link: Link, init: int, enter: tuple[str, ...]) -> None:
    """Lay the wire between this machine and the node."""
    run("ip", "link", "add", link.device, "type", "veth", "peer", "eth0", "netns", str(init))
    run("ip", "address", "add", f"{link.host}/30", "dev", link.device)
    run("ip", "link", "set", link.device, "up")
    run(*enter, "ip", "address", "add", f"{link.node}/30", "dev", "eth0")
    for device in ("lo", "eth0"):
        run(*enter, "ip", "link", "set", device, "up")
    run(*enter, "ip", "route", "add", "default", "via", str(link.host))


def _await_containerd(components: Components, place: Place) -> None:
    def answers() -> bool:
        return nodefiles.socket(place).exists()

    components.wait_until(answers, what="containerd", seconds=_START)


def _servants(plane: ControlPlane) -> dict[str, list[str | Path]]:
    """What runs on the node beside containerd, by name."""
    folder, programs = plane.place.node.folder, plane.programs
    kube = programs / "kube"
    untouched = (  # what is the host's, kube-proxy leaves alone
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )
    return {
        "kubelet": [
            *(kube, "kubelet", f"--config={folder}/kubelet.json"),
            *(f"--kubeconfig={folder}/node.conf", f"--root-dir={folder}/kubelet"),
            *(f"--hostname-override={NODE_NAME}", f"--node-ip={plane.link.node}"),
        ],
        "kube-proxy": [
            *(kube, "kube-proxy", f"--kubeconfig={folder}/admin.conf", "--proxy-mode=iptables"),
            *(f"--cluster-cidr={POD_NETWORK}", f"--hostname-override={NODE_NAME}", *untouched),
        ],
        "coredns": [programs / "coredns", "-conf", folder / "Corefile"],
    }
