"""Builds and runs JobSet's controller, with its webhooks, on this machine."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from acceleratedjob.api.names import Manifest
from acceleratedjob.local.process import free_port
from tests.cluster.testbed import binaries
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.processes import DIE_WITH_PARENT, run, tail, wait_until

NAME = "jobset"
MODULE = "sigs.k8s.io/jobset"
SOURCES = Path(__file__).parent / "go"
_CRD = "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"
_WEBHOOKS = "config/components/webhook"
_PATCHES = {
    "MutatingWebhookConfiguration": "patches/mutating-patch.yaml",
    "ValidatingWebhookConfiguration": "patches/validating-patch.yaml",
}
_START = 60.0  # seconds
_END = 20.0  # seconds


def program(report: Callable[[str], None] = lambda _: None) -> Path:
    """Return the path of the controller, which is built if it does not exist."""
    return binaries.program(NAME, sources=SOURCES, package=MODULE, report=report)


def module() -> Path:
    """Return the folder of the module, from the cache of the Go compiler."""
    return Path(run("go", "-C", SOURCES / NAME, "list", "-m", "-f", "{{.Dir}}", MODULE).strip())


def configuration(*, port: int, health: int, certificates: Path) -> Manifest:
    """Return the configuration of the controller.

    Args:
        port: the port of its webhooks.
        health: the port at which it says that it is ready.
        certificates: the folder of the certificate of its webhooks.
    """
    return {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(certificates)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
    }


def webhooks(folder: Path, *, port: int, authority: bytes) -> Iterator[Manifest]:
    """Yield the webhook configurations of the module, for a controller outside of the cluster.

    Args:
        folder: the folder of the module.
        port: the port of its webhooks.
        authority: the certificate of the authority that has signed theirs.
    """
    bundle = base64.b64encode(authority).decode("ascii")
    for found in yaml.safe_load_all((folder / _WEBHOOKS / "manifests.yaml").read_text()):
        patches = yaml.safe_load((folder / _WEBHOOKS / _PATCHES[found["kind"]]).read_text())
        found["metadata"]["name"] = f"{NAME}-{found['metadata']['name']}"
        for patch in patches:
            found["webhooks"][int(patch["path"].rpartition("/")[2])] = patch["value"]
        for one in found["webhooks"]:
            url = f"https://127.0.0.1:{port}{one['clientConfig']['service']['path']}"
            one["clientConfig"] = {"url": url, "caBundle": bundle}
        yield found


@contextlib.contextmanager
def serve(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Run the controller inside the block, as its administrator.

    Args:
        plane: the control plane.
        folder: the folder for its configuration, its certificate and its log.
    """
    port, health = free_port(), free_port()
    found = configuration(port=port, health=health, certificates=_certified(plane, folder))
    file, log = folder / "jobset.json", folder / "jobset.log"
    file.write_text(json.dumps(found), encoding="utf-8")
    _install(plane, port)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*DIE_WITH_PARENT, str(program()), f"--config={file}", "--zap-log-level=info"],
            env=os.environ | {"KUBECONFIG": str(plane.kubeconfig)},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: _is_ready(health), what="JobSet's controller", seconds=_START)
        yield
    except BaseException as error:
        error.add_note(f"the end of the log of {NAME}:\n{tail(log)}")
        raise
    finally:
        child.terminate()
        child.wait(_END)


def _certified(plane: ControlPlane, folder: Path) -> Path:
    """Return the folder with the certificate of the webhooks."""
    plane.authority.sign(NAME, subject=f"/CN={NAME}", alternatives="IP:127.0.0.1")
    made = folder / "certificates"
    made.mkdir()
    shutil.copyfile(plane.authority.certificate(NAME), made / "tls.crt")
    shutil.copyfile(plane.authority.key(NAME), made / "tls.key")
    return made


def _install(plane: ControlPlane, port: int) -> None:
    """Install the CRD and the webhooks."""
    folder = module()
    plane.cluster.kubectl("apply", "--server-side", "--filename", folder / _CRD)
    authority = plane.authority.certificate("ca").read_bytes()
    items: list[Any] = list(webhooks(folder, port=port, authority=authority))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    plane.cluster.kubectl("apply", "--filename=-", stdin=text)
    served = ("get", "jobsets.jobset.x-k8s.io")
    wait_until(lambda: plane.cluster.answers(*served), what="JobSet's API", seconds=_START)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
        return True
    return False
