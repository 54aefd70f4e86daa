"""The examples are listed, and their manifests are ones that the CRD and the planner take."""

import ast
import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests.podgroup import pod_group
from tests.attempts import pod_of
from tests.cluster.jobs import CRD

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/job.yaml"))
CHART = EXAMPLES.parent / "charts/acceleratedjob/Chart.yaml"
APP_VERSION = yaml.safe_load(CHART.read_text())["appVersion"]
VERSION = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
SPEC = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]


def spec(example: str) -> JobSpec:
    manifest = yaml.safe_load((EXAMPLES / example / "job.yaml").read_text())
    jsonschema.validate(manifest["spec"], SPEC)
    manifest["metadata"] |= {"namespace": "default", "uid": "u"}
    return JobSpec.from_manifest(manifest)


def test_every_example_has_a_row_with_its_command() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(\1\) \| .+ \| `.+ examples/\1/job\.yaml` \|$",
        (EXAMPLES / "README.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(rows) == FOLDERS


def test_every_folder_is_told_of() -> None:
    told = re.findall(r"\[(\w+)\]\(\1\)", (EXAMPLES / "README.md").read_text())
    assert sorted(told) == sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.mark.parametrize("example", FOLDERS)
def test_an_examples_job_is_taken_by_the_crd_and_makes_two_pods(example: str) -> None:
    job = spec(example)
    names = [
        pod_of(job, attempt=0, index=index)["metadata"]["name"] for index in range(job.replicas)
    ]
    assert names == [f"{example}-0-0", f"{example}-0-1"]


def test_kueues_example_makes_a_group_of_its_pods() -> None:
    metadata = pod_of(spec("kueue"), attempt=0, index=0)["metadata"]
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert metadata["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "2"


def test_volcanos_example_makes_a_pod_group_of_both() -> None:
    group = pod_group(spec("volcano"))
    assert group is not None
    assert group["spec"] == {"minMember": 2, "queue": "default"}


DOCKERFILES = sorted(path.parent.name for path in EXAMPLES.glob("*/Dockerfile"))
PACKAGES = {"sklearn": "scikit-learn"}  # of modules whose names differ
WITH_TORCH = {"torch", "torchvision", "numpy"}  # in the images of PyTorch
BRINGS = {"s3fs": {"fsspec"}}


def imports(script: Path) -> set[str]:
    """The packages that a script imports, without those of Python and this project."""
    found = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return {PACKAGES.get(one, one) for one in found - {*sys.stdlib_module_names, "runtime"}}


@pytest.mark.parametrize("example", DOCKERFILES)
def test_a_dockerfile_has_the_scripts_and_their_packages(example: str) -> None:
    lines = (EXAMPLES / example / "Dockerfile").read_text().splitlines()
    (installed,) = (line.split()[4:] for line in lines if line.startswith("RUN pip install"))
    (copied,) = (line.split()[1:-1] for line in lines if line.startswith("COPY"))
    scripts = [EXAMPLES / example / name for name in copied]
    assert [one.name for one in sorted((EXAMPLES / example).glob("*.py"))] == sorted(copied)
    needed = set().union(*map(imports, scripts)) - WITH_TORCH
    assert needed <= set(installed) | set().union(*(BRINGS.get(one, set()) for one in installed))
    assert f"ARG RUNTIME=acceleratedjob-runtime:{APP_VERSION}" in lines
