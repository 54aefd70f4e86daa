"""An operator that cannot reach its API server: it waits, says so once, and ends when asked."""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceleratedjob.cli import main
from acceleratedjob.manager.shutdown import END_SECONDS
from tests.cluster.jobs import Job, fake_job
from tests.cluster.members import LONG, SECONDS, Member, elected, member, one_leads
from tests.cluster.operators import start_operator
from tests.cluster.proxy import Proxy, proxy, recorder
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.processes import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.usefixtures("crd", "fake_nodes"),
]

UNREACHABLE = 4
Blow = Callable[[Proxy], None]
BLOWS = pytest.mark.parametrize(
    "blow",
    [
        pytest.param(Proxy.refuse, id="it refuses connections"),
        pytest.param(Proxy.drop, id="it takes everything and says nothing"),
    ],
)


def said(log: Path, words: str) -> int:
    """In how many lines."""
    return sum(words in line for line in log.read_text().splitlines())


def test_an_operator_waits_for_its_api_server_and_says_so_once(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with proxy(control_plane.kubeconfig) as way:
        through, log = way.kubeconfig(control_plane.kubeconfig, tmp_path), tmp_path / "log"
        way.refuse()
        with member(through, log, namespace, *elected(namespace, *LONG)) as waiting:
            waiting.wait("/healthz", 200)
            waiting.wait("/readyz", 503)
            wait_until(lambda: said(log, "no answer") > 0, what="a word", seconds=SECONDS)
            way.forward()
            waiting.wait("/readyz", 200)
            one_leads([waiting])
            assert waiting.end() == 0
        assert (said(log, "no answer"), said(log, "answers again")) == (1, 1), log.read_text()
        assert said(log, "Traceback") == 0, log.read_text()


def stranger(plane: ControlPlane, folder: Path) -> Path:
    """A kubeconfig that does not know who has signed the server's certificate."""
    told = json.loads(plane.kubeconfig.read_text())
    for entry in told["clusters"]:
        for key in [key for key in entry["cluster"] if key.startswith("certificate-authority")]:
            del entry["cluster"][key]
    path = folder / "stranger.conf"
    path.write_text(json.dumps(told))
    return path


def test_a_certificate_that_is_not_trusted_is_the_end(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, log = stranger(control_plane, tmp_path), tmp_path / "log"
    assert start_operator(file, log, "default").wait(SECONDS) == UNREACHABLE
    assert main(["why", "digits", f"--kubeconfig={file}"]) == UNREACHABLE
    for text in (log.read_text(), capsys.readouterr().err):
        (line,) = text.splitlines()
        assert "must be trusted, and is not: unable to get local issuer" in line


@contextlib.contextmanager
def served(
    plane: ControlPlane, folder: Path, namespace: str
) -> Iterator[tuple[Member, Member, Proxy]]:
    """A leader and a standby, both of whose requests pass through one proxy."""
    flags = elected(namespace, *LONG)
    with recorder(plane) as way:
        through = way.kubeconfig(plane.kubeconfig, folder)
        with member(through, folder / "first.log", namespace, *flags) as leader:
            one_leads([leader])
            with member(through, folder / "second.log", namespace, *flags) as standby:
                standby.wait("/readyz", 200)
                yield leader, standby, way


@BLOWS
def test_without_an_api_server_operators_end_in_time_and_well(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, blow: Blow
) -> None:
    """The leader in a pass with writes under way: who does not end in time is ended by force."""
    job = Job(control_plane.cluster, namespace)
    with served(control_plane, tmp_path, namespace) as (leader, standby, way):
        way.delay(0.2)
        job.apply(fake_job(namespace, replicas=32))
        asked = f"POST /api/v1/namespaces/{namespace}/pods?"
        wait_until(
            lambda: any(one.startswith(asked) for one in way.requests),
            what="a pod that is asked for",
            seconds=SECONDS,
        )
        blow(way)
        for each in (leader, standby):
            each.process.send_signal(signal.SIGTERM)
        assert [each.process.wait(SECONDS) for each in (leader, standby)] == [0, 0]
    for log in tmp_path.glob("*.log"):
        assert said(log, "shutdown timed out") == 0, f"{END_SECONDS} s: {log.read_text()}"


@BLOWS
def test_an_operator_that_waits_for_its_api_server_ends_when_asked(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, blow: Blow
) -> None:
    with proxy(control_plane.kubeconfig) as way:
        through, log = way.kubeconfig(control_plane.kubeconfig, tmp_path), tmp_path / "log"
        blow(way)
        with member(through, log, namespace, *elected(namespace, *LONG)) as waiting:
            waiting.wait("/readyz", 503)
            assert waiting.end() == 0
    assert said(log, "shutdown timed out") == 0, log.read_text()
