"""Which pods a namespace has had, and how often their containers were restarted."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import DIE_WITH_PARENT

_COLUMNS = "uid:.metadata.uid,restarts:.status.containerStatuses[0].restartCount"


def counted(lines: Iterable[str], *, expected: int) -> tuple[int, int]:
    """Return how many pods were replaced, and how often containers were restarted.

    Args:
        lines: the UID of a pod and the restarts of its container, at each change of a pod.
        expected: the number of pods without a fault.

    >>> counted(["a <none>", "b 0", "a 0", "a 1", "c <none>"], expected=2)
    (1, 1)
    """
    restarts: dict[str, int] = {}
    for line in lines:
        uid, count = line.split()
        restarts[uid] = max(restarts.get(uid, 0), int(count) if count.isdecimal() else 0)
    return max(0, len(restarts) - expected), sum(restarts.values())


class Pods:
    """Notes each change of the pods of a namespace; a context manager."""

    def __init__(self, cluster: Cluster, namespace: str, file: Path) -> None:
        """Args: cluster: the cluster; namespace: the namespace; file: where changes are noted."""
        self._file = file
        flags = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace)
        output = ("--watch", "--no-headers", f"--output=custom-columns={_COLUMNS}")
        self._command = [*DIE_WITH_PARENT, cluster.program, *flags, "get", "pods", *output]

    def __enter__(self) -> Self:
        with self._file.open("wb") as output:
            self._process = subprocess.Popen(self._command, stdout=output)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def lines(self) -> list[str]:
        """Return what was noted, a line for each change, without one that is being written."""
        return self._file.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
