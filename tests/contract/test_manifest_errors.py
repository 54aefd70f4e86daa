"""The page of wrong manifests is what the commands say, and their types are those of Kubernetes."""

from pathlib import Path

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.validation import check, report
from docs import manifest_errors, pod_types
from docs.wrong_manifests import RIGHT, WRONG, Case
from tests.contract import documents


def test_the_page_is_what_the_commands_say() -> None:
    text = manifest_errors.PAGE.read_text(encoding="utf-8")
    assert text == manifest_errors.page(manifest_errors.recorded()), "run `make docs`"


def test_the_types_of_pods_are_those_of_the_kubernetes_package() -> None:
    assert pod_types.FILE.read_text(encoding="utf-8") == pod_types.text(), "run `make docs`"


def test_there_are_many_of_them_and_no_two_alike() -> None:
    assert len({case.data() for case in WRONG}) == len({case.about for case in WRONG}) >= 60


@pytest.mark.parametrize("case", [pytest.param(case, id=case.about) for case in WRONG])
def test_a_wrong_manifest_has_a_fault_on_a_line_of_it(case: Case) -> None:
    found = report.of_file(case.data())
    assert found.faults
    lines = case.data().count(b"\n") + 1
    assert all(1 <= fault.place.line <= lines for fault in found.faults)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.about) for case in RIGHT])
def test_a_right_manifest_has_none(case: Case) -> None:
    assert report.of_file(case.data()).faults == ()


@pytest.mark.parametrize("job", [pytest.param(job, id=name) for name, job in documents.jobs()])
def test_a_job_that_the_documents_show_has_none(job: Manifest) -> None:
    assert check.faults(job) == []


@pytest.mark.parametrize(
    "file", sorted((documents.PROJECT / "examples").glob("*/job.yaml")), ids=str
)
def test_an_example_has_none_and_no_surprise(file: Path) -> None:
    found = report.of_file(file.read_bytes())
    assert (found.faults, found.warnings) == ((), ())
