"""The CRD and the operator describe one resource."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from acceleratedjob.api import checkpoint, sections, training
from acceleratedjob.api.names import ConditionType, Manifest, Phase
from acceleratedjob.api.schema import key
from acceleratedjob.api.sections import MAX_PROCESSES, MAX_REPLICAS
from acceleratedjob.api.spec import JobSpec, _Spec
from acceleratedjob.api.status import Status
from acceleratedjob.errors import InvalidSpec
from tests.cluster.jobs import CRD
from tests.contract.manifests import BAD, GOOD
from tests.operator import stages

VERSION: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]
WAIT = {"reason": "ImagePullBackOff", "since": "2026-01-01T00:00:00Z", "replicas": "0"}
TIME = "2026-01-01T00:00:00Z"
FAILURE: Manifest = {"attempt": 0, "replica": 0, "pod": "digits-0-0"}
FAILURE |= {"reason": "Error", "time": "2026-01-01T00:00:00Z"}
COLUMNS: list[dict[str, Any]] = VERSION["additionalPrinterColumns"]


def properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from properties(inner, f"{path}.{name}")
        yield from properties(inner.get("items", {}), f"{path}.{name}[]")


def with_null(schema: Any) -> Any:
    """The same in JSON Schema's words, where null is a type."""
    if isinstance(schema, list):
        return [with_null(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: with_null(inner) for name, inner in schema.items()}
    return made | ({"type": [made["type"], "null"]} if made.pop("nullable", False) else {})


def keys(cls: Any) -> dict[str, Any]:
    return {key(field.name): field for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(
    ("manifest", "field"), [pytest.param(row[1], row[2], id=row[0]) for row in BAD]
)
def test_the_operator_refuses_with_the_field(manifest: Manifest, field: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        JobSpec.from_manifest(manifest)
    assert field in refusal.value.field


@pytest.mark.parametrize("manifest", [pytest.param(row[1], id=row[0]) for row in GOOD])
def test_the_operator_takes_what_the_crd_takes(manifest: Manifest) -> None:
    JobSpec.from_manifest(manifest)
    jsonschema.validate(manifest["spec"], with_null(SCHEMA["properties"]["spec"]))


@pytest.mark.parametrize(
    ("path", "cls"),
    [
        ("spec", _Spec),
        ("spec.runtime", sections.RuntimeSettings),
        ("spec.checkpoint", checkpoint.Checkpoint),
        ("spec.checkpoint.volume", checkpoint.Volume),
        ("spec.elastic", sections.Elastic),
        ("spec.failurePolicy", sections.FailurePolicy),
        ("spec.failurePolicy.backoff", sections.Backoff),
        ("spec.failurePolicy.rules[]", sections.FailureRule),
        ("spec.scheduling", sections.Scheduling),
        ("spec.network", sections.Network),
        ("spec.sharedMemory", sections.SharedMemory),
        ("status", Status),
        ("status.progress", training.Progress),
        ("status.checkpoint", training.Checkpoint),
        ("status.goodput", training.Goodput),
        ("status.goodput.lost", training.Lost),
        ("status.goodput.earlier", training.Earlier),
        ("status.goodput.earlier.lost", training.Lost),
        ("status.shown", training.Shown),
    ],
)
def test_fields_and_defaults_are_the_same_on_both_sides(path: str, cls: Any) -> None:
    schema = SCHEMA
    for name in path.split("."):
        schema = schema["properties"][name.removesuffix("[]")]
        schema = schema["items"] if name.endswith("[]") else schema
    fields = keys(cls)
    assert set(schema["properties"]) == set(fields)
    if path.startswith("status"):
        return
    for name, inner in schema["properties"].items():
        default = fields[name].default
        if not dataclasses.is_dataclass(default):
            expected = None if default in (dataclasses.MISSING, ()) else default
            assert inner.get("default") == expected, name


@pytest.mark.parametrize("list_", ["conditions", "pending", "failures"])
def test_the_statuss_lists_have_the_same_fields_on_both_sides(list_: str) -> None:
    hints = typing.get_type_hints(Status)
    (cls, _) = typing.get_args(hints[list_])
    items = SCHEMA["properties"]["status"]["properties"][list_]["items"]
    assert set(items["properties"]) == set(keys(cls))


@pytest.mark.parametrize(
    "status", [stages.RUNNING, stages.SECOND, stages.SUSPENDED, stages.COMPLETE]
)
def test_what_the_operator_writes_is_what_the_crd_takes(status: Status) -> None:
    jsonschema.validate(status.to_manifest(), SCHEMA["properties"]["status"])
    assert Status.from_manifest({"status": status.to_manifest()}) == status


def test_the_status_of_the_largest_job_can_be_read_again() -> None:
    sizes = {"size": MAX_REPLICAS, "wanted": MAX_REPLICAS, "processesPerReplica": MAX_PROCESSES}
    largest = {"attempt": 0, "worldSize": MAX_REPLICAS * MAX_PROCESSES} | sizes
    jsonschema.validate(largest, SCHEMA["properties"]["status"])
    assert Status.from_manifest({"status": largest}).world_size == 10_240_000


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"attempt": -1}, id="an attempt before the first"),
        pytest.param({"size": 10_001}, id="more replicas than a job may have"),
        pytest.param({"wanted": 10_001}, id="more replicas wanted than a job may have"),
        pytest.param({"processesPerReplica": 1025}, id="more processes than a pod may have"),
        pytest.param({"completedIndexes": "x,y"}, id="indices that are none"),
        pytest.param({"completedIndexes": "0-9999999999"}, id="indices beyond all bounds"),
        pytest.param({"pending": [{"reason": "Refused", "count": -1}]}, id="fewer than no pods"),
        pytest.param({"waits": [WAIT | {"replicas": "-3"}]}, id="a clock of no replica"),
        pytest.param({"failures": [FAILURE | {"replica": -1}]}, id="a failure of no replica"),
        pytest.param({"failures": [FAILURE | {"step": -1}]}, id="a step before the first"),
        pytest.param({"failures": [FAILURE | {"life": -1}]}, id="a life before the first"),
        pytest.param({"life": 101}, id="more lives than an attempt may have"),
        pytest.param({"progress": {"step": 2**53}}, id="a step beyond all bounds"),
        pytest.param({"progress": {"percent": 101}}, id="more than all"),
        pytest.param({"checkpoint": {"step": 1, "tier": "tape", "time": TIME}}, id="another tier"),
        pytest.param({"checkpoint": {"step": 1, "tier": "memory"}}, id="a checkpoint of no time"),
        pytest.param({"goodput": {"ratio": 1.5}}, id="a ratio above 1"),
        pytest.param({"goodput": {"lost": {"hang": -1}}}, id="less than no time"),
        pytest.param({"goodput": {"startTime": "2026"}}, id="a time that is none"),
    ],
)
def test_a_status_that_the_operator_cannot_read_is_not_stored(wrong: Manifest) -> None:
    with pytest.raises(InvalidSpec):
        Status.from_manifest({"status": wrong})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA["properties"]["status"])


def test_every_phase_is_known_to_the_crd() -> None:
    assert SCHEMA["properties"]["status"]["properties"]["phase"]["enum"] == list(Phase)
    assert all(
        condition in SCHEMA["properties"]["status"]["properties"]["conditions"]["description"]
        for condition in ConditionType
    )


def test_each_column_of_kubectl_get_is_a_field_of_its_type() -> None:
    fields = {
        path.replace("[]", "[0]"): inner["type"]
        for path, inner in properties(SCHEMA)
        if "type" in inner
    }
    paths = {column["jsonPath"]: column["type"] for column in COLUMNS}
    assert paths.pop(".metadata.creationTimestamp") == "date"
    assert paths == {path: fields[path] for path in paths}


def test_every_field_is_described() -> None:
    silent = [
        path
        for path, schema in properties(SCHEMA)
        if "description" not in schema and path not in (".apiVersion", ".kind", ".metadata")
    ]
    assert silent == []
