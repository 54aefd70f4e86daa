"""The operator as a process asks a fake pod's address, and writes what is answered there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.cluster.jobs import Job, fake_job

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

ADDRESS = "127.0.0.1"
HANG = {"kind": "hang", "text": "rank 1 hangs at train.py:7", "rank": 1, "replica": 1}


class Training:
    """What stands for rank 0: answers every request for the progress with the same."""

    def __init__(self, **told: Any) -> None:
        self.told = {"attempt": 0, "life": 0} | told
        self.asked = 0

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Listen inside the block; the port."""
        training = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                training.asked += self.path == "/progress"
                body = json.dumps(training.told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            try:
                yield server.server_port
            finally:
                server.shutdown()
                thread.join()


def begin(job: Job, port: int, **spec: Any) -> None:
    """Run a job whose replica 0 has this machine's address."""
    job.apply(fake_job(job.namespace, network={"progressPort": port}, **spec))
    job.wait("jsonpath={.status.phase}=Running")
    change = json.dumps({"status": {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}})
    flags = ("--subresource=status", "--type=merge", "--patch", change)
    job.kubectl("patch", "pod/digits-0-0", *flags)


def test_kubectl_get_shows_the_progress(job: Job) -> None:
    saved = {"step": 500, "tier": "storage", "time": "2026-01-02T03:04:05Z", "seconds": 1}
    numbers = {"step": 540, "totalSteps": 1080, "etaSeconds": 4320, "stepSeconds": 0.001}
    goodput = {"productiveSeconds": 0.54, "ratio": 1, "lost": {}}
    training = Training(**numbers, checkpoint=saved, goodput=goodput)
    with training.serving() as port:
        begin(job, port)
        job.wait("jsonpath={.status.progress.step}=540")
    header, row = (line.split() for line in job.kubectl("get", "aj").splitlines())
    assert header[3:7] == ["STEP", "PROGRESS", "ETA", "GOODPUT"]
    assert row[3:6] == ["540", "50%", "1h12m"]
    assert row[6].endswith("%")
    assert job.get(".status.checkpoint.step") == "500"
    assert training.asked >= 1


def test_a_hang_is_a_condition_and_one_event_and_ends_the_attempt_in_time(job: Job) -> None:
    training = Training(step=7, verdicts=[HANG])
    with training.serving() as port:
        begin(job, port, stallDeadlineSeconds=600, failurePolicy={"backoff": {"initialSeconds": 0}})
        job.wait("condition=Hanging")
        job.patch({"stallDeadlineSeconds": 1})
        job.wait("jsonpath={.status.attempt}=1")
    assert job.get(".status.conditions[?(@.type=='Hanging')].status") == "False"
    failure = json.loads(job.kubectl("get", "aj/digits", "--output=json"))["status"]["failures"][0]
    assert (failure["reason"], failure["rank"], failure["pod"]) == ("Stalled", 1, "digits-0-1")
    assert failure["message"] == "has stalled: rank 1 hangs at train.py:7"
    assert "since" in failure
    events = job.kubectl("get", "events", "--output=jsonpath={.items[*].reason}").split()
    assert events.count("Hang") == 1
