"""The examples are listed, and their manifests are ones that the CRD and the planner take."""

import re
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
