"""Several operators of the same jobs, and what each tells of itself over HTTP."""

import contextlib
import http.client
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.operators import start_operator
from tests.cluster.programs import Program
from tests.cluster.testbed.ports import reserved_port
from tests.cluster.testbed.processes import tail, wait_until

SECONDS = 120  # for what takes two; the machine may be busy, with four loops beside the tests
# An operator that stands still for longer than the deadline ends, and nobody starts it again.
SHORT = ("--lease-duration=15s", "--renew-deadline=12s", "--retry-period=500ms")
LONG = ("--lease-duration=600s", "--renew-deadline=500s", "--retry-period=500ms")


@dataclass(frozen=True, slots=True)
class Member:
    """One operator's process."""

    process: Program
    port: int
    log: Path

    def page(self, path: str) -> tuple[int, str]:
        """A page's status and text; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except (OSError, http.client.HTTPException):  # it does not listen, or ends as it answers
            return 0, ""

    def value(self, metric: str) -> float:
        """A metric's value, by its name and labels as /metrics shows them; 0 if it is not there."""
        lines = (line.rpartition(" ") for line in self.page("/metrics")[1].splitlines())
        return next((float(number) for name, _, number in lines if name == metric), 0.0)

    @property
    def leads(self) -> bool:
        """Whether it says that it may write."""
        return self.value("accelerated_job_leader") == 1

    def wait(self, path: str, status: int) -> str:
        """Wait until a page answers with a status; its text."""
        found = 0, ""

        def has_answered() -> bool:
            nonlocal found
            found = self.page(path)
            return found[0] == status

        what = f"{status} of {path} (log: {tail(self.log)})"
        wait_until(has_answered, what=what, seconds=SECONDS)
        return found[1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def member(kubeconfig: Path, log: Path, namespace: str, *flags: str) -> Iterator[Member]:
    """An operator that answers over HTTP, ready at the beginning and gone at the end."""
    with reserved_port() as port:
        process = start_operator(kubeconfig, log, namespace, f"--http-port={port}", *flags)
        try:
            yield Member(process, port, log)
        finally:
            process.kill()
            process.wait()


def elected(namespace: str, *terms: str) -> tuple[str, ...]:
    """The flags of an operator that is one of several."""
    return ("--leader-elect", f"--lease-namespace={namespace}", *terms)


def one_leads(members: list[Member]) -> Member:
    """Wait until exactly one of some members leads, and return that one."""
    leaders: list[Member] = []

    def holds() -> bool:
        leaders[:] = [each for each in members if each.leads]
        return len(leaders) == 1

    wait_until(holds, what="one leader", seconds=SECONDS)
    return leaders[0]
