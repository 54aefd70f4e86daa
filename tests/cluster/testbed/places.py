"""Every name that a test bed leaves on a machine: folders, locks, addresses, devices, cgroups.

Kept in one place because cleaning must find after a crash exactly what starting has made, with
nothing but the name of a folder to go by.
"""

import os
import tempfile
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
NODE_NAME = "node0"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
CLUSTER_DOMAIN = "cluster.local"
_LINKS = IPv4Network("198.18.0.0/15")  # RFC 2544: for benchmarks, routed nowhere
_CGROUPS = Path("/sys/fs/cgroup")


def cache() -> Path:
    """The user's folder for what is costly to make: binaries and images."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "acceleratedjob" / "testbed"


def beds() -> Path:
    """The folder that holds every test bed of this user on this machine."""
    folder = Path(tempfile.gettempdir()) / f"acceleratedjob-testbed-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} must belong to user {os.getuid()}: remove it")
    return folder


@dataclass(frozen=True, slots=True)
class Place:
    """Where one part of a test bed (its control plane, or its node) lives.

    The locks lie beside the folder, not in it: they outlive it.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(f"the name of a test bed must be a plain file name, got {self.name!r}")

    @property
    def folder(self) -> Path:
        """All that the part writes."""
        return beds() / self.name

    @property
    def ready(self) -> Path:
        """Exists from when the part works until it is ended."""
        return self.folder / "ready"

    @property
    def holders(self) -> Path:
        """Locked, shared, by each process that needs the part."""
        return beds() / f"{self.name}.holders"

    @property
    def server(self) -> Path:
        """Locked by the part's supervisor as long as that lives."""
        return beds() / f"{self.name}.server"

    @property
    def kept(self) -> Path:
        """Exists while the part is to stay without a holder."""
        return beds() / f"{self.name}.kept"

    @property
    def node(self) -> "Place":
        """The place of the node that belongs to this control plane."""
        return Place(f"{self.name}.node")

    @property
    def supervisor_log(self) -> Path:
        """What the part's supervisor has written; a bed that did not start tells why there."""
        return beds() / f"{self.name}.log"

    def restart(self, component: str) -> Path:
        """Exists while a component is asked to be killed and started again."""
        return self.folder / f"{component}.restart"

    def log(self, component: str) -> Path:
        """What a component has written."""
        return self.folder / "log" / f"{component}.log"

    def cgroups(self) -> list[Path]:
        """The control groups that a node here lives under, one a controller (or the only one)."""
        name = f"acceleratedjob-testbed.{self.name}"
        if (_CGROUPS / "cgroup.controllers").exists():
            return [_CGROUPS / name]
        if not _CGROUPS.is_dir():
            return []
        controllers = [c for c in _CGROUPS.iterdir() if c.is_dir() and not c.is_symlink()]
        return [c / name for c in sorted(controllers)]


@dataclass(frozen=True, slots=True)
class Link:
    """The wire between this machine and the namespace of the node, a function of the API's port.

    A port has one listener, so two test beds never share a link.
    """

    port: int  # of the API server; 1..65535

    @property
    def device(self) -> str:
        """This machine's end; goes away with the node's namespace."""
        return f"aj{self.port}"

    @property
    def host(self) -> IPv4Address:
        """Where pods and kubelet find the API server."""
        return self._first + 1

    @property
    def node(self) -> IPv4Address:
        """Where the API server finds the kubelet, and pods the DNS server."""
        return self._first + 2

    @property
    def _first(self) -> IPv4Address:
        return _LINKS.network_address + 4 * (self.port % (_LINKS.num_addresses // 4))
