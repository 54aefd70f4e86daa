"""A cluster as a test sees it, whoever runs it: a kubeconfig, and kubectl."""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.testbed.processes import TestbedFailed, run


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster and the right to do anything in it."""

    kubeconfig: Path
    program: str = "kubectl"  # which kubectl: a path, or a name on PATH

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints.

        Raises:
            TestbedFailed: it failed; the message holds what it wrote to standard error.
        """
        return run(self.program, "--kubeconfig", self.kubeconfig, *arguments, stdin=stdin)

    def answers(self, *arguments: str) -> bool:
        """Whether kubectl succeeds."""
        try:
            self.kubectl(*arguments)
        except TestbedFailed:
            return False
        return True
