"""The Python client against a real API server, with an operator."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob import Client
from acceleratedjob.errors import AlreadyExists, JobFailed, NotFound, Refused
from tests.cluster.jobs import PYTHON, Job
from tests.cluster.test_commands import end_fake_pod
from tests.cluster.testbed import images, kwok
from tests.cluster.testbed.places import PROJECT
from tests.cluster.testbed.processes import wait_until
from tests.contract.documents import objects
from tests.operator.test_client_local import wheel

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]

SECONDS = 240
(ROLE,) = objects("docs/client.md")


def train(lr: float) -> None:
    import os

    print("rate", lr, "rank", os.environ["RANK"], flush=True)


@pytest.fixture
def client(job: Job) -> Iterator[Client]:
    """A client of the administrator."""
    kubeconfig = str(job.cluster.kubeconfig)
    with Client(kubeconfig=kubeconfig, namespace=job.namespace, image="train:1") as made:
        yield made


@pytest.mark.usefixtures("fake_nodes")
def test_a_job_lives_and_ends_with_its_code(job: Job, client: Client) -> None:
    options: dict[str, Any] = {"args": {"lr": 0.1}, "replicas": 2, "pod": kwok.PLACEMENT}
    made = client.train(train, **options, name="digits")
    with pytest.raises(AlreadyExists, match="a job digits exists in"):
        client.train(train, **options, name="digits")
    job.wait("jsonpath={.status.phase}=Running")
    assert (made.get().phase, made.get().ready) == ("Running", 2)
    assert [one.name for one in client.list()] == ["digits"]
    (code,) = [name for name in job.names("configmaps") if name.startswith("digits-code-")]
    assert job.get(".spec.template.spec.volumes[0].configMap.name") == code

    assert made.stop(timeout=SECONDS, force=True).phase == "Suspended"
    made.resume()
    job.wait("jsonpath={.status.attempt}=1")
    made.delete()
    with pytest.raises(NotFound):
        made.get()
    job.wait_gone(f"configmap/{code}")  # by the garbage collector


@pytest.mark.usefixtures("fake_nodes")
def test_a_failure_is_told_with_its_message(job: Job, client: Client) -> None:
    once = {"failurePolicy": {"maxRestarts": 0}}
    made = client.train(train, args={"lr": 1}, replicas=2, pod=kwok.PLACEMENT, spec=once)
    job.wait_for(made.name, "jsonpath={.status.phase}=Running")
    end_fake_pod(job, f"{made.name}-0-0", 1, "no data")
    with pytest.raises(JobFailed, match="no data"):
        made.wait(timeout=SECONDS)
    assert made.get().failures[0].message.endswith("no data")


@pytest.fixture
def user(job: Job, tmp_path: Path) -> Path:
    """The kubeconfig of a user with the permissions that the documents name, and no more."""
    job.kubectl("create", "serviceaccount", "ann")
    job.kubectl("apply", "--filename=-", stdin=json.dumps(ROLE))
    account = f"--serviceaccount={job.namespace}:ann"
    job.kubectl("create", "rolebinding", "ann", f"--role={ROLE['metadata']['name']}", account)
    token = job.kubectl("create", "token", "ann").strip()
    raw = job.cluster.kubectl("config", "view", "--raw", "--flatten", "--output=json")
    config = json.loads(raw)
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    path = tmp_path / "user.conf"
    path.write_text(json.dumps(config))
    wait_until(lambda: may_create_code(job), what="the user's rights", seconds=SECONDS)
    return path


def may_create_code(job: Job) -> bool:
    """Whether the user may; the API server takes a while to know of a change of a role."""
    user = f"--as=system:serviceaccount:{job.namespace}:ann"
    namespace = f"--namespace={job.namespace}"
    return job.cluster.answers("auth", "can-i", "create", "configmaps", user, namespace)


@pytest.mark.usefixtures("fake_nodes")
def test_a_user_needs_no_more_than_the_documents_say(job: Job, user: Path) -> None:
    with Client(kubeconfig=str(user), namespace=job.namespace, image="train:1") as client:
        made = client.train(train, args={"lr": 1}, replicas=2, pod=kwok.PLACEMENT, name="digits")
        job.wait("jsonpath={.status.phase}=Running")
        assert [one.phase for one in client.list()] == ["Running"]
        made.stop(timeout=SECONDS, force=True)
        made.resume()
        job.wait("jsonpath={.status.attempt}=1")
        made.delete()
        job.wait_gone("aj/digits")

        less = [rule for rule in ROLE["rules"] if "configmaps" not in rule["resources"]]
        job.kubectl("apply", "--filename=-", stdin=json.dumps(ROLE | {"rules": less}))
        wait_until(lambda: not may_create_code(job), what="the end of a right", seconds=SECONDS)
        with pytest.raises(Refused, match='cannot create resource "configmaps"'):
            client.train(train, args={"lr": 1})
        assert job.names("aj") == []  # the job was created first


def train_with_a_package(lr: float) -> None:
    import os

    import tiny  # type: ignore[import-not-found]  # is in the pods

    print(tiny.SIZE, lr, "rank", os.environ["RANK"], flush=True)


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.usefixtures("node")
def test_real_pods_run_what_is_shipped_and_installed(client: Client, tmp_path: Path) -> None:
    """The root file system of the pods is read-only."""
    wheel(tmp_path)
    folders = {"venv": sys.prefix, "python": sys.base_prefix, "project": str(PROJECT)}
    mounts = folders | {"wheels": "/wheels"}
    made = client.train(
        train_with_a_package,
        args={"lr": 0.5},
        replicas=2,
        image=images.BASE,
        packages=["tiny @ file:///wheels/tiny-1.0-py3-none-any.whl"],
        env={"PATH": f"{Path(PYTHON).parent}:/usr/bin:/bin", "PIP_NO_INDEX": "1"},
        pod={
            "volumes": [
                {"name": name, "hostPath": {"path": path}}
                for name, path in (folders | {"wheels": str(tmp_path)}).items()
            ]
        },
        container={
            "imagePullPolicy": "Never",
            "securityContext": {"readOnlyRootFilesystem": True},
            "volumeMounts": [
                {"name": name, "mountPath": path, "readOnly": True} for name, path in mounts.items()
            ],
        },
    )
    lines = sorted(map(str, made.logs(follow=True)))
    assert made.wait(timeout=SECONDS).succeeded
    assert lines == [f"rank {n} | tiny 0.5 rank {n}" for n in (0, 1)]
    assert sorted(map(str, made.logs())) == lines
