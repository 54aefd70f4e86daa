"""`Client()`: what it asks of an API server, and what it makes of the answers."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob import Client, JobState, LogLine
from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.client.portal import Portal
from acceleratedjob.cluster import Ref
from acceleratedjob.errors import (
    AlreadyExists,
    InvalidSpec,
    JobFailed,
    LosesTraining,
    NoAnswer,
    NotFound,
    Refused,
    Unreachable,
)
from tests.operator.builders import NOW
from tests.operator.clientserver import ClientServer

SECONDS = 600
REF = Ref(names.KIND, "research", "digits")
COMPLETE = {"type": "Complete", "status": "True", "reason": "Succeeded", "message": "All is done"}
FAILED = {"type": "Failed", "status": "True", "reason": "X", "message": "Replica 1 has failed"}
UP = {"phase": "Running", "ready": 2, "size": 2, "observedGeneration": 1}


def train(lr: float = 0.1) -> None:
    print(lr)


@pytest.fixture
def server() -> ClientServer:
    return ClientServer()


@pytest.fixture
def client(server: ClientServer, tmp_path: Path) -> Iterator[Client]:
    """A client of the server, with an image."""
    with (
        server.kubeconfig(tmp_path) as kubeconfig,
        Client(kubeconfig=str(kubeconfig), image="train:1") as made,
    ):
        yield made


@pytest.fixture
def later() -> Iterator[Callable[..., None]]:
    """Do something in a thread."""
    threads: list[threading.Thread] = []

    def start(function: Callable[..., object], *args: object) -> None:
        threads.append(threading.Thread(target=function, args=args))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def objects(server: ClientServer, kind: str) -> list[Manifest]:
    return list(server.cluster.objects(kind))


def status(server: ClientServer, **fields: Any) -> None:
    server.change(REF, {"status": fields})


def when_watched(server: ClientServer, **fields: Any) -> None:
    """Change the status once somebody watches."""
    server.do(server.watched.wait())
    status(server, **fields)


def test_a_job_and_its_code_are_created(client: Client, server: ClientServer) -> None:
    job = client.train(train, args={"lr": 0.5}, replicas=2, name="digits")
    (made,), (code,) = objects(server, names.KIND), objects(server, "ConfigMap")
    assert [verb for verb, _ in server.requests] == ["create", "create"]
    assert made["metadata"]["namespace"] == client.namespace == "research"
    (volume, _) = made["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == code["metadata"]["name"]
    assert names.owner_uid(code) == made["metadata"]["uid"]
    assert "train(**{'lr': 0.5})" in code["data"]["train.py"]
    assert job.get() == JobState(name="digits", namespace="research", replicas=2)
    job.delete()
    assert objects(server, names.KIND) == objects(server, "ConfigMap") == []


def test_nothing_is_left_if_the_code_is_refused(client: Client, server: ClientServer) -> None:
    server.forbidden.add(("create", "configmaps"))
    with pytest.raises(Refused, match='User "ann" cannot create resource "configmaps"'):
        client.train(train)
    assert objects(server, names.KIND) == objects(server, "ConfigMap") == []


@pytest.mark.parametrize("resource", ["acceleratedjobs", "configmaps"])
def test_nothing_is_left_of_a_request_without_an_answer(
    client: Client, server: ClientServer, resource: str
) -> None:
    server.silent.add(("create", resource))
    with pytest.raises(NoAnswer):
        client.train(train)
    assert objects(server, names.KIND) == objects(server, "ConfigMap") == []


def test_another_job_of_the_name_is_left_alone(client: Client, server: ClientServer) -> None:
    client.train(train, name="digits")
    server.deaf.add(("create", "acceleratedjobs"))
    with pytest.raises(NoAnswer):
        client.train(train, name="digits")
    assert len(objects(server, names.KIND)) == 1


def test_a_job_that_cannot_be_deleted_again_is_named(client: Client, server: ClientServer) -> None:
    server.forbidden |= {("create", "configmaps"), ("delete", "acceleratedjobs")}
    with pytest.raises(Refused) as error:
        client.train(train, name="digits")
    (note,) = error.value.__notes__
    assert "the job digits may be left, and cannot start: delete it" in note


def test_an_interrupted_call_has_cleaned_up_when_it_returns() -> None:
    portal, began, did = Portal(), threading.Event(), list[str]()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            did.append("undone")

    def interrupt() -> None:
        began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        portal.run(work())
    assert did == ["undone"]
    thread.join()
    portal.close()


def test_the_code_is_not_created_without_a_job(client: Client, server: ClientServer) -> None:
    server.forbidden.add(("create", "acceleratedjobs"))
    with pytest.raises(Refused):
        client.train(train)
    assert objects(server, "ConfigMap") == []


def test_nothing_is_asked_for_a_job_that_is_invalid(client: Client, server: ClientServer) -> None:
    with pytest.raises(InvalidSpec, match="replicas"):
        client.train(train, replicas=0)
    assert server.requests == []


def test_a_name_that_is_taken(client: Client, server: ClientServer) -> None:
    client.train(train, name="digits")
    with pytest.raises(AlreadyExists, match="a job digits exists in research: delete it, or"):
        client.train(train, name="digits")
    assert len(objects(server, names.KIND)) == len(objects(server, "ConfigMap")) == 1


def test_a_job_on_a_cluster_needs_an_image(server: ClientServer, tmp_path: Path) -> None:
    with (
        server.kubeconfig(tmp_path) as kubeconfig,
        Client(kubeconfig=str(kubeconfig)) as client,
        pytest.raises(InvalidSpec, match="image: is required on a cluster"),
    ):
        client.train(train)


def test_the_state_of_a_training(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits", replicas=2)
    progress = {"step": 540, "totalSteps": 1080, "percent": 50, "etaSeconds": 60, "loss": "0.25"}
    saved = {"step": 520, "tier": "storage", "time": format_time(NOW)}
    slow = {"type": "Straggling", "status": "True", "reason": "Straggler", "message": "rank 3"}
    status(server, **UP, progress=progress, checkpoint=saved, goodput={"ratio": 0.87})
    status(server, conditions=[slow], attempt=1, restarts=1)
    found = job.get()
    assert (found.phase, found.ready, found.attempt, found.restarts) == ("Running", 2, 1, 1)
    assert (found.step, found.total_steps, found.percent, found.eta_seconds) == (540, 1080, 50, 60)
    assert (found.loss, found.goodput, found.checkpoint_step) == ("0.25", 0.87, 520)
    assert found.verdicts == ("Straggling: rank 3",)
    assert not found.finished
    assert client.list() == [found]


def test_the_end_is_waited_for(
    client: Client, server: ClientServer, later: Callable[..., None]
) -> None:
    job = client.train(train, name="digits")
    later(lambda: when_watched(server, phase="Succeeded", conditions=[COMPLETE]))
    state = job.wait(timeout=SECONDS)
    assert (state.succeeded, state.message) == (True, "All is done")


def test_a_failure_is_raised_with_its_traceback(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits")
    failure = {"attempt": 0, "replica": 1, "pod": "digits-0-1", "reason": "Error", "time": "x"}
    failure |= {"traceback": "ValueError: no data"}
    status(server, phase="Failed", conditions=[FAILED], failures=[failure])
    with pytest.raises(JobFailed) as error:
        job.wait(timeout=SECONDS)
    assert str(error.value) == "digits has failed: Replica 1 has failed\nValueError: no data"
    assert error.value.name == "digits"
    assert job.wait(check=False).failed


def test_a_job_that_does_not_end_in_time(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits")
    status(server, phase="Pending", pending=[{"reason": "X", "count": 1, "message": "no GPU"}])
    with pytest.raises(TimeoutError, match=r"within 0\.1 s: it is Pending, in attempt 0, no GPU"):
        job.wait(timeout=0.1)


def test_a_job_that_is_deleted_is_not_waited_for(
    client: Client, server: ClientServer, later: Callable[..., None]
) -> None:
    job = client.train(train, name="digits")

    def delete() -> None:
        server.do(server.watched.wait())
        job.delete()

    later(delete)
    with pytest.raises(NotFound, match="the job digits was deleted"):
        job.wait(timeout=SECONDS)


def test_a_job_that_there_is_not(client: Client) -> None:
    for call in (client.get, client.job, client.wait, client.stop, client.resume, client.delete):
        with pytest.raises(NotFound, match="digits"):
            call("digits")
    with pytest.raises(NotFound):
        client.logs("digits")


@pytest.mark.parametrize("replica", [-1, 2])
def test_the_logs_of_a_replica_that_there_is_not(client: Client, replica: int) -> None:
    job = client.train(train, name="digits", replicas=2)
    with pytest.raises(InvalidSpec, match="replica: must be between 0 and 1"):
        job.logs(replica=replica)


@pytest.mark.parametrize("name", ["", "..", "digits/status", "x/../digits", "digits?x=1"])
def test_a_name_that_no_job_can_have_reaches_no_other_object(
    client: Client, server: ClientServer, name: str
) -> None:
    client.train(train, name="digits")
    for call in (client.get, client.job, client.wait, client.stop, client.resume, client.delete):
        with pytest.raises(NotFound):
            call(name)
    (left,) = objects(server, names.KIND)
    assert left["metadata"]["name"] == "digits"


def test_a_stop_waits_until_the_pods_have_ended(
    client: Client, server: ClientServer, later: Callable[..., None]
) -> None:
    job = client.train(train, name="digits", checkpoint="s3://b/c")
    status(server, **UP, replicas=2, readyTime=format_time(NOW))
    idle = {"phase": "Suspended", "observedGeneration": 2, "replicas": 0}
    later(lambda: when_watched(server, **idle))
    assert job.stop(timeout=SECONDS).phase == "Suspended"
    (made,) = objects(server, names.KIND)
    assert made["spec"]["suspend"] is True
    job.resume()
    (made,) = objects(server, names.KIND)
    assert made["spec"]["suspend"] is False


def test_a_stop_that_loses_the_training_is_refused(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits")
    status(server, **UP, readyTime=format_time(NOW))
    with pytest.raises(LosesTraining, match=r"digits has no spec\.checkpoint"):
        job.stop()
    (made,) = objects(server, names.KIND)
    assert "suspend" not in made["spec"]


def pod(server: ClientServer, attempt: int, index: int, text: str, *, begun: bool = True) -> None:
    """A pod of the job, that has written a text."""
    (job,) = objects(server, names.KIND)
    uid, name = job["metadata"]["uid"], names.pod_name("digits", attempt, index)
    owner = {"kind": names.KIND, "name": "digits", "uid": uid, "controller": True}
    state: Manifest = {"running": {}} if begun else {"waiting": {}}
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "research",
            "labels": names.pod_selector("digits", uid),
            "ownerReferences": [owner],
        },
        "spec": {"containers": [{"name": "trainer"}]},
    }
    server.logs[name] = text.encode()
    server.do(server.cluster.create(made))
    told = {"status": {"containerStatuses": [{"name": "trainer", "state": state}]}}
    server.change(Ref("Pod", "research", name), told)


def line(attempt: int, replica: int, text: str, rank: int | None = None) -> LogLine:
    return LogLine(attempt=attempt, replica=replica, rank=rank, text=text)


def test_the_lines_so_far(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits", replicas=2)
    assert list(job.logs()) == []
    pod(server, 0, 1, "c\n")
    pod(server, 0, 0, "a\nb")
    pod(server, 0, 2, "the API server refuses this request", begun=False)
    first = [line(0, 0, "a", 0), line(0, 0, "b", 0), line(0, 1, "c", 1)]
    assert list(job.logs()) == first
    assert list(job.logs(replica=1)) == first[2:]
    status(server, processesPerReplica=2)
    assert [one.rank for one in job.logs()] == [None] * 3
    assert [str(one) for one in job.logs(replica=1)] == ["replica 1 | c"]
    status(server, attempt=1)
    assert list(job.logs()) == []


def test_lines_are_followed_over_the_attempts_to_the_end(
    client: Client, server: ClientServer
) -> None:
    job = client.train(train, name="digits")
    pod(server, 0, 0, "a\n")
    lines = job.logs(follow=True)
    assert next(lines) == line(0, 0, "a", 0)
    pod(server, 1, 0, "b\n")
    assert next(lines) == line(1, 0, "b", 0)
    pod(server, 2, 0, "c\n")
    status(server, phase="Succeeded", conditions=[COMPLETE])
    assert list(lines) == [line(2, 0, "c", 0)]


def test_a_pod_that_the_watch_does_not_bring_is_read_at_the_end(
    client: Client, server: ClientServer
) -> None:
    server.forbidden.add(("watch", "pods"))
    job = client.train(train, name="digits")
    pod(server, 0, 0, "a\n")
    lines = job.logs(follow=True)
    assert next(lines) == line(0, 0, "a", 0)
    pod(server, 1, 0, "b\n")
    status(server, phase="Succeeded", conditions=[COMPLETE])
    assert list(lines) == [line(1, 0, "b", 0)]


def test_lines_may_be_left(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits")
    pod(server, 0, 0, "a\n" * 5000)
    for one in job.logs(follow=True):
        assert one == line(0, 0, "a", 0)
        break
    assert job.get().phase == "Pending"


def test_the_logs_of_a_job_that_is_deleted(client: Client, server: ClientServer) -> None:
    job = client.train(train, name="digits")
    pod(server, 0, 0, "a\n")
    lines = job.logs(follow=True)
    next(lines)
    job.delete()
    with pytest.raises(NotFound, match="the job digits was deleted"):
        list(lines)


def test_it_works_where_a_loop_runs(client: Client) -> None:
    """As in a cell of a notebook."""

    async def cell() -> JobState:
        return client.train(train, name="digits").get()

    assert asyncio.run(cell()).phase == "Pending"


def test_the_context_and_the_namespace_are_chosen(server: ClientServer, tmp_path: Path) -> None:
    with server.kubeconfig(tmp_path) as kubeconfig:
        with Client(kubeconfig=str(kubeconfig), context="here", namespace="other") as client:
            assert client.namespace == "other"
            assert client.list() == []
        with pytest.raises(Unreachable, match="must have the context 'there'"):
            Client(kubeconfig=str(kubeconfig), context="there")
    with pytest.raises(Unreachable, match="a kubeconfig must exist"):
        Client(kubeconfig=os.devnull + "/none")


def test_a_client_may_be_closed_twice(server: ClientServer, tmp_path: Path) -> None:
    with server.kubeconfig(tmp_path) as kubeconfig:
        client = Client(kubeconfig=str(kubeconfig))
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="the client must be open, but it was closed"):
            client.list()
