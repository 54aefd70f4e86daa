"""A control plane on this machine, as any user: etcd, API server, controllers, scheduler.

It listens on free ports, so several live side by side. The API server also answers at the host's
end of the link to a node, whether or not a node is ever added.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.cluster.testbed import binaries, kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.holding import serving
from tests.cluster.testbed.pki import Authority
from tests.cluster.testbed.places import SERVICE_NETWORK, Link, Place
from tests.cluster.testbed.ports import reserved_port
from tests.cluster.testbed.processes import Components, wait_until

_API_SERVER = "kube-apiserver"
_START = 240.0  # seconds; takes 6 on a quiet machine
_TUNED = ("--kube-api-qps=2000", "--kube-api-burst=4000", "--leader-elect=false")
_NODE_SILENCE = "10m"  # a machine that stands still for a minute has not lost its nodes
_NAMES = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where a control plane's files are, and how to speak to it."""

    place: Place

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.place.folder / "admin.conf"

    @property
    def kwok_kubeconfig(self) -> Path:
        """That of what plays the fake nodes."""
        return self.place.folder / "kwok.conf"

    @property
    def programs(self) -> Path:
        """A folder for PATH: kubectl, helm, kube."""
        return self.place.folder / "bin"

    @property
    def authority(self) -> Authority:
        """What signs for this control plane."""
        return Authority(self.place.folder / "pki")

    @property
    def link(self) -> Link:
        """The wire to the node, this control plane's own."""
        return Link(json.loads((self.place.folder / "port").read_text(encoding="utf-8")))

    @property
    def cluster(self) -> Cluster:
        """What its users need."""
        return Cluster(self.kubeconfig, program=str(self.programs / "kubectl"))

    def restart_api_server(self) -> None:
        """Kill the API server, and return when a new one answers."""
        asked = self.place.restart(_API_SERVER)
        asked.touch()
        wait_until(lambda: not asked.exists(), what="a new API server", seconds=_START)
        wait_until(
            lambda: self.cluster.answers("get", "--raw", "/readyz"),
            what="its answer",
            seconds=_START,
        )

    def compact(self) -> None:
        """Have etcd forget all that was before now: the API server answers 410 to who asks."""
        now = self._etcd("range", key=base64.b64encode(b"/").decode())["header"]["revision"]
        self._etcd("compaction", revision=now, physical=True)

    def _etcd(self, call: str, **body: object) -> Any:
        """Ask etcd by its JSON gateway."""
        port = json.loads((self.place.folder / "etcd-port").read_text(encoding="utf-8"))
        url, data = f"http://127.0.0.1:{port}/v3/kv/{call}", json.dumps(body).encode()
        with urlopen(Request(url, data, method="POST")) as answer:
            return json.load(answer)


def serve(place: Place, *, fake_nodes: int, watch_cache: bool = True) -> None:
    """Be the supervisor of a control plane with some fake nodes until nobody needs it.

    Without a watch cache, what a watch may be given of the past is etcd's history.
    """
    plane = ControlPlane(place)
    with (
        reserved_port() as etcd,
        reserved_port() as peer,
        reserved_port() as port,
        serving(place) as components,
    ):
        _link_programs(plane)
        _certify(plane, port)
        _write(plane, "etcd-port", etcd)
        kube = plane.programs / "kube"
        components.start("etcd", _etcd(plane, etcd, peer))
        components.start(
            _API_SERVER, [*_api_server(plane, etcd), f"--watch-cache={watch_cache}".lower()]
        )
        ready = "the API server"
        components.wait_until(
            lambda: plane.cluster.answers("get", "--raw", "/readyz"), what=ready, seconds=_START
        )
        components.start("kube-controller-manager", _controllers(plane))
        as_admin = ("--kubeconfig", plane.kubeconfig)
        scheduler: list[str | Path] = [
            kube,
            "kube-scheduler",
            *as_admin,
            "--secure-port=0",
            *_TUNED,
        ]
        components.start("kube-scheduler", scheduler)
        _add_fake_nodes(plane, components, fake_nodes)
        components.wait_until(
            lambda: plane.cluster.answers("get", "serviceaccount", "default"),
            what="the default service account",
            seconds=_START,
        )


def _link_programs(plane: ControlPlane) -> None:
    plane.programs.mkdir()
    for name in binaries.PACKAGES:
        (plane.programs / name).symlink_to(binaries.program(name))
    kubectl = plane.programs / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nexec "{plane.programs}/kube" kubectl "$@"\n', encoding="utf-8")
    kubectl.chmod(0o755)


def _write(plane: ControlPlane, name: str, port: int) -> None:
    (plane.place.folder / name).write_text(json.dumps(port), encoding="utf-8")


def _certify(plane: ControlPlane, port: int) -> None:
    _write(plane, "port", port)
    authority = Authority.create(plane.place.folder / "pki")
    first_service = SERVICE_NETWORK.replace(".0/16", ".1")
    addresses = ",".join(f"IP:{ip}" for ip in ("127.0.0.1", plane.link.host, first_service))
    authority.sign("server", subject="/CN=kube-apiserver", alternatives=f"{_NAMES},{addresses}")
    authority.sign("admin", subject="/O=system:masters/CN=admin")
    server = f"https://127.0.0.1:{port}"
    authority.write_kubeconfig(plane.kubeconfig, name="admin", server=server)
    authority.sign("kwok", subject=f"/O=system:masters/CN={kwok.USER}")
    authority.write_kubeconfig(plane.kwok_kubeconfig, name="kwok", server=server)


def _etcd(plane: ControlPlane, port: int, peer: int) -> list[str | Path]:
    client = f"http://127.0.0.1:{port}"
    return [
        *(plane.programs / "kube", "etcd", "--data-dir", plane.place.folder / "etcd"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
        *("--unsafe-no-fsync", "--quota-backend-bytes=4294967296"),  # lost with the bed anyway
    ]


def _api_server(plane: ControlPlane, etcd: int) -> list[str | Path]:
    authority, link = plane.authority, plane.link
    files = {
        "tls-cert-file": authority.certificate("server"),
        "tls-private-key-file": authority.key("server"),
        "client-ca-file": authority.certificate("ca"),
        "service-account-key-file": authority.key("sa"),
        "service-account-signing-key-file": authority.key("sa"),
        "kubelet-client-certificate": authority.certificate("admin"),
        "kubelet-client-key": authority.key("admin"),
    }
    return [
        *(plane.programs / "kube", _API_SERVER, f"--secure-port={link.port}"),
        *(f"--{flag}={file}" for flag, file in files.items()),
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--advertise-address={link.host}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",  # as on OpenShift
        "--allow-privileged=true",
    ]


def _controllers(plane: ControlPlane) -> list[str | Path]:
    authority = plane.authority
    return [
        *(plane.programs / "kube", "kube-controller-manager", "--kubeconfig", plane.kubeconfig),
        f"--service-account-private-key-file={authority.key('sa')}",
        f"--root-ca-file={authority.certificate('ca')}",
        *("--secure-port=0", f"--node-monitor-grace-period={_NODE_SILENCE}", *_TUNED),
    ]


def _add_fake_nodes(plane: ControlPlane, components: Components, count: int) -> None:
    if count == 0:
        return
    for manifest in (kwok.manners(), kwok.nodes(count)):
        plane.cluster.kubectl("apply", "--filename=-", stdin=manifest)
    components.start("kwok", kwok.command(plane.programs / "kwok", plane.kwok_kubeconfig))
    ready = ("wait", "--for=condition=Ready", "--timeout=1s", "node", "--selector", kwok.LABEL)
    components.wait_until(lambda: plane.cluster.answers(*ready), what="fake nodes", seconds=_START)
