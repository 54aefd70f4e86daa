"""The configuration that a node's programs read; each has the reason for what is unusual."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.testbed import images
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.places import CLUSTER_DOMAIN, NODE_NAME, POD_NETWORK, Place

CNI_PLUGINS = Path("/usr/lib/cni")

# A negative oom_score_adj needs CAP_SYS_RESOURCE, which a machine in a sandbox may lack.
_CONTAINERD = """\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""

# ttl 0: a name that moves with a new attempt is never answered from a cache.
_COREFILE = """\
.:53 {{
  bind {address}
  errors
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {folder}/admin.conf
    pods insecure
    ttl 0
  }}
}}
"""


def socket(place: Place) -> Path:
    """Where a node's containerd listens."""
    return place.folder / "containerd.sock"


def write(plane: ControlPlane) -> None:
    """Write all files of a control plane's node into the node's folder."""
    folder = plane.place.node.folder
    _write_identities(plane, folder)
    containerd = _CONTAINERD.format(
        folder=folder, socket=socket(plane.place.node), sandbox=images.BASE, plugins=CNI_PLUGINS
    )
    corefile = _COREFILE.format(folder=folder, address=plane.link.node, domain=CLUSTER_DOMAIN)
    (folder / "cni").mkdir()
    for name, text in {
        "containerd.toml": containerd,
        "Corefile": corefile,
        "cni/10-testbed.conflist": json.dumps(_network()),
        "kubelet.json": json.dumps(_kubelet(plane)),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_identities(plane: ControlPlane, folder: Path) -> None:
    authority, link = plane.authority, plane.link
    authority.sign("node", subject=f"/O=system:nodes/CN=system:node:{NODE_NAME}")
    server = f"https://{link.host}:{link.port}"
    for name in ("node", "admin"):
        authority.write_kubeconfig(folder / f"{name}.conf", name=name, server=server)


def _network() -> dict[str, Any]:
    """A bridge for the pods, whose way out is the node's address."""
    ranges = {"ranges": [[{"subnet": POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", **ranges},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "testbed", "plugins": [bridge, ports]}


def _kubelet(plane: ControlPlane) -> dict[str, Any]:
    folder = plane.place.node.folder
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",  # no systemd here
        "cgroupRoot": f"/{plane.place.node.cgroups()[0].name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [str(plane.link.node)],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/dev/null",  # pods know the cluster's names, and no others
        "containerRuntimeEndpoint": f"unix://{socket(plane.place.node)}",
        "volumePluginDir": f"{folder}/plugins",
        "maxPods": 250,
        # The host's disk is not the node's to be worried about, nor to be cleaned.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "localStorageCapacityIsolation": False,
    }
