"""AcceleratedJobs on a real API server, as tests write and read them."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import yaml

from acceleratedjob.api.names import API_VERSION, KIND, PLURAL
from tests.cluster.definitions import until_established
from tests.cluster.testbed import images, kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import PROJECT
from tests.cluster.testbed.processes import TestbedFailed, wait_until

CHART = PROJECT / "charts" / "acceleratedjob"
CRD = CHART / "files" / "acceleratedjobs.accelerated.dev.yaml"
DIGITS = PROJECT / "examples" / "digits"
PYTHON = sys.executable
SECONDS = 240  # for what takes one; the machine may be busy, and stand still for a while
TRAINING_SECONDS = 600  # for what imports torch in several processes


def install_crd(cluster: Cluster) -> str:
    """Have the job's definition served from here on; its name.

    Established says that it will be: until its store is ready the API server answers with 429.
    """
    cluster.kubectl("apply", "--server-side", "--filename", str(CRD))
    until_established(cluster, CRD.stem)
    stored = ("get", "--raw", f"/apis/{API_VERSION}/{PLURAL}?resourceVersion=0")
    wait_until(lambda: cluster.answers(*stored), what=f"the store of {PLURAL}", seconds=SECONDS)
    return CRD.stem


def fake_job(namespace: str, name: str = "digits", **spec: Any) -> dict[str, Any]:
    """A job whose pods run on fake nodes."""
    container = {"name": "trainer", "image": "train:1", "command": ["train"]}
    pod = {"containers": [container], **kwok.PLACEMENT}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 2, "template": {"spec": pod}} | spec,
    }


def real_job(namespace: str, command: list[str], **spec: Any) -> dict[str, Any]:
    """The digits job, in a small image that sees this machine's Python and this project."""
    manifest: dict[str, Any] = yaml.safe_load((DIGITS / "job.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    folders = {"venv": sys.prefix, "python": sys.base_prefix, "project": str(PROJECT)}
    pod = manifest["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": n, "hostPath": {"path": path}} for n, path in folders.items()]
    pod["containers"][0] |= {
        "image": images.BASE,
        "imagePullPolicy": "Never",
        "command": command,
        "workingDir": str(DIGITS),
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],  # all pods share the cores
        "volumeMounts": [
            {"name": n, "mountPath": path, "readOnly": True} for n, path in folders.items()
        ],
    }
    manifest["spec"] |= spec
    return manifest


@dataclass(frozen=True, slots=True)
class Job:
    """One job in a namespace."""

    cluster: Cluster
    namespace: str
    name: str = "digits"

    def apply(self, manifest: dict[str, Any], *flags: str) -> str:
        """Apply a manifest, strictly."""
        text = json.dumps(manifest)
        return self.kubectl("apply", "--validate=strict", "--filename=-", *flags, stdin=text)

    def patch(self, spec: dict[str, Any]) -> str:
        """Change fields of the job's spec."""
        change = json.dumps({"spec": spec})
        return self.kubectl("patch", f"aj/{self.name}", "--type=merge", "--patch", change)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the job's namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def wait(self, condition: str, seconds: int = SECONDS) -> None:
        """Wait for a condition of the job; what it is instead is in the error."""
        self.wait_for(self.name, condition, seconds)

    def wait_for(self, name: str, condition: str, seconds: int = SECONDS) -> None:
        """Wait for a condition of another job."""
        flags = (f"--for={condition}", f"--timeout={seconds}s")
        try:
            self.kubectl("wait", f"aj/{name}", *flags)
        except TestbedFailed as error:
            error.add_note(self.kubectl("get", "aj,pods", "--output=yaml"))
            raise

    def wait_gone(self, *what: str, seconds: int = SECONDS) -> None:
        """Wait until objects are no more."""
        self.kubectl("wait", *what, "--for=delete", f"--timeout={seconds}s")

    def path(self, subresource: str) -> str:
        """The API server's path of a subresource of the job."""
        place = f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}"
        return f"{place}/{self.name}/{subresource}"

    def get(self, path: str) -> str:
        """A field of the job, by JSONPath."""
        return self.kubectl("get", f"aj/{self.name}", f"--output=jsonpath={{{path}}}")

    def names(self, kind: str) -> list[str]:
        """Names of the namespace's objects of a kind."""
        return self.kubectl("get", kind, "--output=jsonpath={.items[*].metadata.name}").split()
