"""The product as it is shipped: both images, built from the Dockerfile, and the chart by helm.

Torch is not in the runtime image that is tried here: its base is a small Debian, and torch and
the interpreter that it was built for come from this machine, in a mounted folder. The library that
trains comes from the image: this project's own is not mounted.
"""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.jobs import DIGITS, PYTHON, TRAINING_SECONDS, Job, real_job
from tests.cluster.releases import OPERATOR, RUNTIME, Builder, Shipped, installed
from tests.cluster.testbed import images
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.processes import TestbedFailed, process_with

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("crd"),
]

FIRST, SECOND = "1.0.0", "1.0.1"
WAITS = (
    "import signal\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
    "open('/run/ready', 'w').close()\n"
    "signal.sigwait({signal.SIGUSR1})"
)


@pytest.fixture(scope="module")
def builder(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Builder:  # noqa: ARG001
    """Builds images; where the node is possible, so is this."""
    builder = Builder(tmp_path_factory.mktemp("images"))
    builder.prepare()
    return builder


@pytest.fixture(scope="module")
def first(builder: Builder, node: Node) -> dict[str, Path]:
    """Both images' archives; the node has them."""
    archives = builder.build("operator", "runtime", version=FIRST)
    for archive in archives.values():
        node.import_image(archive)
    return archives


@pytest.fixture(scope="module")
def second(builder: Builder, node: Node, first: dict[str, Path]) -> Path:  # noqa: ARG001
    """The operator's next image, built of the same source anew."""
    archive = builder.build("operator", version=SECOND, flags="--no-cache")["operator"]
    node.import_image(archive)
    return archive


@pytest.fixture(scope="module")
def release(node: Node, first: dict[str, Path]) -> Iterator[Shipped]:  # noqa: ARG001
    """The operator, installed by helm from its image."""
    with installed(node, f"test-{uuid.uuid4().hex[:8]}", FIRST) as release:
        yield release


@pytest.fixture
def shipped(release: Shipped) -> Job:
    """A job's name in the namespace that the release serves."""
    return Job(release.cluster, release.served, f"job-{uuid.uuid4().hex[:8]}")


def trained(job: Job, command: list[str], library: Path) -> dict[str, Any]:
    """The digits job in the runtime image, whose library is the only one there is."""
    manifest = real_job(job.namespace, command)
    manifest["metadata"]["name"] = job.name
    pod = manifest["spec"]["template"]["spec"]
    project, scripts = "project", str(DIGITS)
    volumes = [one for one in pod["volumes"] if one["name"] != project]
    pod["volumes"] = [*volumes, {"name": "digits", "hostPath": {"path": scripts}}]
    (trainer,) = pod["containers"]
    mounts = [one for one in trainer["volumeMounts"] if one["name"] != project]
    mounts.append({"name": "digits", "mountPath": scripts, "readOnly": True})
    found = {"name": "PYTHONPATH", "value": str(library)}
    trainer |= {
        "image": f"{RUNTIME}:{FIRST}",
        "volumeMounts": mounts,
        "env": [*trainer["env"], found],
    }
    return manifest


def small(job: Job, script: str) -> dict[str, Any]:
    """A job that runs one line of Python in the runtime image, with nothing mounted."""
    container = {"name": "trainer", "image": f"{RUNTIME}:{FIRST}", "imagePullPolicy": "Never"}
    ready = {"exec": {"command": ["test", "-e", "/run/ready"]}, "periodSeconds": 1}
    started = {"command": ["python3", "-c", script], "readinessProbe": ready}
    manifest = real_job(job.namespace, [])
    manifest["metadata"]["name"] = job.name
    manifest["spec"]["template"]["spec"] = {"containers": [container | started]}
    return manifest


def library(archive: Path) -> Path:
    """Where the runtime image keeps the library."""
    (found,) = (path for path in images.added(archive) if path.endswith("/runtime/__init__.py"))
    return Path("/", found).parents[1]


def test_the_operators_image_is_nobodys_and_says_what_it_is(first: dict[str, Path]) -> None:
    told = images.configuration(first["operator"])
    assert (told["User"], told["Cmd"]) == ("65532:65532", ["operator"])
    assert told["Labels"]["org.opencontainers.image.version"] == FIRST
    assert told["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert [entry for entry in told["Env"] if entry.startswith("PIP_")] == []


def test_the_operators_image_has_one_folder_beyond_its_base(first: dict[str, Path]) -> None:
    packages = {path.partition("/site-packages/")[2] for path in images.added(first["operator"])}
    assert {"acceleratedjob/cli/__init__.py", "kopf/__init__.py"} <= packages
    assert [path for path in packages if path.startswith(("runtime/", "pip/", "hatchling/"))] == []
    outside = [path for path in images.added(first["operator"]) if not path.startswith("opt/")]
    assert outside == []


def test_an_image_built_again_has_the_same_files(first: dict[str, Path], second: Path) -> None:
    one, two = images.added(first["operator"]), images.added(second)
    assert {path for path in one | two if one.get(path) != two.get(path)} == set()


def test_the_runtime_image_adds_the_library_alone(first: dict[str, Path]) -> None:
    place = str(library(first["runtime"])).removeprefix("/")
    added = {path for path in images.added(first["runtime"]) if path != "etc/hosts"}  # buildah's
    own = (f"{place}/runtime/", f"{place}/acceleratedjob-")
    assert {path for path in added if not path.startswith(own)} == set()


def test_the_installed_operator_trains_the_digits(shipped: Job, first: dict[str, Path]) -> None:
    shipped.apply(trained(shipped, [PYTHON, "train.py"], library(first["runtime"])))
    shipped.wait("condition=Complete", seconds=TRAINING_SECONDS)
    assert shipped.get(".status.failures") == ""
    assert float(shipped.kubectl("logs", f"{shipped.name}-0-0").split()[-1]) >= 0.95


def test_helms_own_test_passes(release: Shipped) -> None:
    assert "Phase:          Succeeded" in release.helm("test", release.namespace, "--timeout=400s")


def test_a_training_image_starts_a_module_by_the_launcher(shipped: Job) -> None:
    manifest = small(shipped, "")
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["command"] = ["python3", "-m", "runtime.launch", "-m", "platform"]
    shipped.apply(manifest)
    shipped.wait("condition=Complete")
    assert shipped.get(".status.failures") == ""
    assert shipped.kubectl("logs", f"{shipped.name}-0-1").startswith("Linux")


def test_the_operators_namespace_lets_in_none_but_restricted_pods(release: Shipped) -> None:
    free = ("run", "free", f"--image={images.BASE}", "--dry-run=server")
    with pytest.raises(TestbedFailed, match="violates PodSecurity"):
        release.kubectl(*free)
    ready = ("pods", "--all", "--for=condition=Ready", "--timeout=240s")
    assert release.kubectl("wait", *ready).count("condition met") == len(release.pods()) == 2


def test_an_operator_that_is_asked_to_end_exits_with_0(release: Shipped) -> None:
    pod = release.pods()[0]
    os.kill(process_with(HOSTNAME=pod, USER="acceleratedjob"), signal.SIGTERM)
    ended = "{.status.containerStatuses[0].lastState.terminated.exitCode}"
    release.kubectl("wait", f"pod/{pod}", f"--for=jsonpath={ended}=0", "--timeout=240s")
    release.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=240s")


def test_an_upgrade_leaves_a_job_running(release: Shipped, shipped: Job, second: Path) -> None:
    assert second.exists()
    shipped.apply(small(shipped, WAITS))
    shipped.wait("jsonpath={.status.phase}=Running")
    label = f"accelerated.dev/job-name={shipped.name}"
    uids = ("get", "pods", "--selector", label, "--output=jsonpath={.items[*].metadata.uid}")
    before, replaced = shipped.kubectl(*uids), release.pods()
    release.put("upgrade", SECOND)
    gone = ("--for=delete", "--timeout=240s")
    release.kubectl("wait", *(f"pod/{name}" for name in replaced), *gone)
    image = "--output=jsonpath={.items[*].spec.containers[*].image}"
    assert release.kubectl("get", "pods", image).split() == [f"{OPERATOR}:{SECOND}"] * 2
    assert (len(before.split()), shipped.kubectl(*uids)) == (2, before)
    for index in range(2):
        pod = f"{shipped.name}-0-{index}"
        own = {"HOSTNAME": pod, "ACCELERATEDJOB_NAMESPACE": shipped.namespace}
        os.kill(process_with(**own), signal.SIGUSR1)
    shipped.wait("condition=Complete")
    assert (shipped.get(".status.attempt"), shipped.get(".status.failures")) == ("0", "")


def test_an_uninstalled_operator_leaves_the_jobs_and_their_kind(
    release: Shipped, shipped: Job, crd: str
) -> None:
    shipped.apply(small(shipped, "pass"))
    shipped.wait("condition=Complete")
    kept = ("get", f"crd/{crd}", f"pod/{shipped.name}-0-0", f"svc/{shipped.name}", "--output=name")
    before = shipped.kubectl(*kept)
    assert {name.split("/")[0] for name in release.owned()} >= {"deployment.apps", "pod"}
    release.uninstall()
    assert release.owned() == []
    assert shipped.kubectl(*kept) == before
    assert json.loads(shipped.get(".status"))["phase"] == "Succeeded"
