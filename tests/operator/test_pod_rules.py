"""What the API server refuses of a pod is a fault of the manifest, with its field."""

import json

import pytest

from acceleratedjob.validation import check, report
from tests.contract.pods import RIGHT, Wrong, manifest, rows
from tests.operator.builders import job


@pytest.mark.parametrize(("row", "in_container"), rows())
def test_what_the_api_server_refuses_is_a_fault(row: Wrong, in_container: bool) -> None:
    made = json.dumps(manifest(row, in_container))
    (fault,) = report.of_file(made.encode()).faults
    inside = "containers[0]." if in_container else ""
    assert fault.field == f"spec.template.spec.{inside}{row.field}"
    assert row.words in fault.message


@pytest.mark.parametrize("text", RIGHT)
def test_what_the_api_server_takes_is_none(text: str) -> None:
    assert check.faults(manifest(Wrong(text, ""), True)) == []


@pytest.mark.parametrize(
    ("metadata", "field", "words"),
    [
        pytest.param(
            {"namespace": "My_Team"}, "namespace", "a lowercase DNS label", id="a namespace"
        ),
        pytest.param({"annotations": {"a b": "c"}}, "annotations[a b]", "a key must", id="a key"),
        pytest.param(
            {"annotations": {"a": "x" * 262_144}},
            "annotations",
            "at most 262144 bytes, got 262145",
            id="large annotations",
        ),
    ],
)
def test_the_faults_of_metadata(metadata: dict[str, object], field: str, words: str) -> None:
    made = job()
    made["metadata"] |= metadata
    (fault,) = check.faults(made)
    assert fault.field == f"metadata.{field}"
    assert words in fault.message
