"""A training in a cluster: its job, its pods and their logs."""

import contextlib
import json
from dataclasses import dataclass

from bench.goodput import processes
from bench.goodput.cluster.manifests import NAME, Spot
from bench.goodput.cluster.systems import System
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import TestbedFailed

TAIL = 3000  # characters of a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training in a cluster.

    Attributes:
        cluster: the cluster.
        system: the controller.
        spot: where it runs.
    """

    cluster: Cluster
    system: System
    spot: Spot

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace of the training."""
        return self.cluster.kubectl("--namespace", self.spot.namespace, *words, stdin=stdin)

    def apply(self) -> None:
        """Create the job."""
        items = self.system.make(self.spot)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.kubectl("apply", "--filename=-", stdin=text)

    def delete_pod(self, index: int) -> None:
        """Ask for the end of a pod, as a person does."""
        self.kubectl("delete", "pod", f"--selector={self.system.label}={index}", "--wait=false")

    def end(self) -> None:
        """Delete the job and its pods, and end what is left of their processes."""
        self.kubectl("delete", self.system.kind, NAME, "--ignore-not-found", "--wait=false")
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
        self.kubectl("wait", f"{self.system.kind}/{NAME}", "--for=delete", "--timeout=60s")
        processes.kill_all(self.spot.run)

    def log(self) -> str:
        """Return the ends of the logs of the pods."""
        texts = []
        for name in self.kubectl("get", "pods", "--output=name").split():
            with contextlib.suppress(TestbedFailed):  # it has not started, or is gone
                texts.append(f"{name}:\n{self.kubectl('logs', name)[-TAIL:]}")
        return "\n".join(texts)
