"""All faults of a manifest are told at once: where, what must hold, what was found, what to do."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.schema import MAX_FAULTS
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cli import main
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.local.process import check_runnable
from acceleratedjob.validation import check, hints, report, source
from acceleratedjob.validation.nodes import replaced
from tests.contract.manifests import BAD, GOOD
from tests.contract.specs import manifest, specs
from tests.operator.builders import CONTAINER, job

TEXT = """\
apiVersion: accelerated.dev/v1alpha1
kind: AcceleratedJob
metadata:
  nmae: digits
spec:
  replica: 2
  maxRestarts: 3
  runtime:
    mixedPrecision: no
    seed: 010
  template:
    spec:
      containers:
        - name: trainer
          imagePullPolice: Always
          command: python train.py
"""


def told(text: str) -> list[str]:
    """What is wrong in a text."""
    return [str(fault) for fault in report.of_file(text.encode()).faults]


def test_all_is_told_at_once_in_the_order_of_the_text() -> None:
    assert told(TEXT) == [
        "3:1: metadata.name: is required",
        "4:3: metadata.nmae: is not a field of metadata; did you mean name?",
        "6:3: spec.replica: is not a field of spec; did you mean replicas?",
        "7:3: spec.maxRestarts: is not a field of spec: maxRestarts belongs in spec.failurePolicy",
        (
            "9:5: spec.runtime.mixedPrecision: must be one of no, fp16, bf16, fp8, got false, "
            'as YAML reads no without quotes: write "no" in quotes'
        ),
        (
            "15:11: spec.template.spec.containers[0].imagePullPolice: is not a field of "
            "spec.template.spec.containers[0]; did you mean imagePullPolicy?"
        ),
        (
            "16:11: spec.template.spec.containers[0].command: must be a list, got "
            "'python train.py': write a list, [python, train.py]"
        ),
    ]


def test_what_is_valid_and_may_surprise_is_a_warning() -> None:
    (warning,) = report.of_file(TEXT.encode()).warnings
    assert (
        str(warning) == '10:11: spec.runtime.seed: YAML reads 010 as 8: write 8, or "010" for text'
    )


def test_a_command_prints_each_fault_with_the_name_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT)
    for command in ("render", "run"):
        assert main([command, str(path)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"{path}:10:11: warning: spec.runtime.seed: ")
        assert lines[1:] == [f"{path}:{one}" for one in told(TEXT)]


def test_what_cannot_run_here_has_its_place_too() -> None:
    made = job({"command": None}, suspend=True)
    found = report.of_file(json.dumps(made, indent=1).encode(), check_runnable)
    assert [fault.field for fault in found.faults] == ["spec.suspend"]
    assert found.faults[0].place.line > 1
    assert report.of_file(json.dumps(made).encode()).faults == ()


@pytest.mark.parametrize(("row", "field"), [pytest.param(row[1], row[2], id=row[0]) for row in BAD])
def test_whatever_a_cluster_refuses_is_a_fault(row: Manifest, field: str) -> None:
    assert any(field in fault.field for fault in check.faults(row))


@pytest.mark.parametrize("row", [pytest.param(row[1], id=row[0]) for row in GOOD])
def test_whatever_a_cluster_takes_is_none(row: Manifest) -> None:
    assert check.faults(row) == []


def refused(made: Manifest) -> list[str]:
    """The fields that the operator refuses."""
    try:
        JobSpec.from_manifest(made)
    except InvalidSpec as error:
        return [fault.field for fault in error.all]
    return []


@given(specs())
@settings(max_examples=200, deadline=None)
def test_all_that_the_operator_refuses_is_told_and_has_a_place(spec: Manifest) -> None:
    made = manifest(spec)
    found = report.of_file(json.dumps(made, indent=1).encode())
    assert set(refused(made)) <= {fault.field for fault in found.faults}
    lines = json.dumps(made, indent=1).count("\n") + 1
    assert all(1 <= fault.place.line <= lines for fault in found.faults)
    assert len({fault.field for fault in found.faults}) == len(found.faults)


@given(specs())
@settings(max_examples=100, deadline=None)
def test_a_second_fault_does_not_hide_the_first(spec: Manifest) -> None:
    alone = {fault.field for fault in check.faults(manifest(spec))}
    more = check.faults(manifest(spec) | {"sepc": {}})
    assert {fault.field for fault in more} == alone | {"sepc"}


FROM = {"name": "a", "key": "x"}  # a key of a Secret


@pytest.mark.parametrize(
    ("container", "field", "message"),
    [
        ({"value": 1}, "value", "is not a field of"),
        ({"image": None}, "image", "is required"),
        ({"image": ""}, "image", "is required"),
        ({"name": "Trainer"}, "name", "lowercase letters"),
        ({"ports": [{}]}, "ports[0].containerPort", "is required"),
        ({"ports": [{"containerPort": 0}]}, "ports[0].containerPort", "between 1 and 65535"),
        (
            {"env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
            "env[0].valueFrom",
            "must be absent beside value",
        ),
        (
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"fieldRef": {"fieldPath": "x"}, "secretKeyRef": FROM},
                    }
                ]
            },
            "env[0].valueFrom",
            "must have one source, got fieldRef and secretKeyRef",
        ),
        (
            {"envFrom": [{"secretRef": {"name": "a", "optinal": True}}]},
            "envFrom[0].secretRef.optinal",
            "did you mean optional?",
        ),
        (
            {"volumeMounts": [{"name": "a", "mountPath": "/a"}]},
            "volumeMounts[0].name",
            "one of the pod's",
        ),
        (
            {"livenessProbe": {"httpGet": {"port": 1.5}}},
            "livenessProbe.httpGet.port",
            "must be a port",
        ),
        (
            {"resources": {"requests": {"nvidia.com/gpu": 1}}},
            "resources.requests[nvidia.com/gpu]",
            "in limits",
        ),
        (
            {"resources": {"requests": {"a.b/c": 1}, "limits": {"a.b/c": 2}}},
            "resources.requests[a.b/c]",
            "equal to",
        ),
        (
            {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}},
            "resources.requests[cpu]",
            "at most",
        ),
        (
            {"resources": {"requests": {"cpu": "two"}}},
            "resources.requests[cpu]",
            "a quantity looks like",
        ),
    ],
)
def test_the_faults_of_a_container(container: Manifest, field: str, message: str) -> None:
    (fault,) = check.faults(job(container))
    assert fault.field == f"spec.template.spec.containers[0].{field}"
    assert message in fault.message


VOLUME: Manifest = {"name": "data", "emptyDir": {}}
MOUNT: Manifest = {"name": "data", "mountPath": "/data"}


@pytest.mark.parametrize(
    ("pod", "field", "message"),
    [
        ({"volumes": [VOLUME, VOLUME]}, "volumes[1].name", "must differ from"),
        ({"volumes": [VOLUME | {"nfs": {"server": "a", "path": "/"}}]}, "volumes[0]", "one source"),
        ({"nodeSelector": {"a b": "c"}}, "nodeSelector[a b]", "a key must be letters"),
        ({"nodeSelector": {"a": "c d"}}, "nodeSelector[a]", "must be letters"),
        ({"tolerations": [{"operator": "Exist"}]}, "tolerations[0].operator", "mean Exists?"),
        ({"containers": [CONTAINER, CONTAINER]}, "containers[1].name", "must differ from"),
        ({"initContainers": [CONTAINER]}, "initContainers[0].name", "must differ from"),
        (
            {"volumes": [VOLUME], "containers": [CONTAINER | {"volumeMounts": [MOUNT, MOUNT]}]},
            "containers[0].volumeMounts[1].mountPath",
            "must differ from",
        ),
    ],
)
def test_the_faults_of_a_pod(pod: Manifest, field: str, message: str) -> None:
    made = job(template={"spec": {"containers": [CONTAINER]} | pod})
    (fault,) = check.faults(made)
    assert fault.field == f"spec.template.spec.{field}"
    assert message in fault.message


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("replicas: '2'", "write 2 without quotes"),
        ("suspend: 'true'", "write true without quotes"),
        ("activeDeadlineSeconds: 2h", "write 7200, the seconds of 2h"),
        ("activeDeadlineSeconds: 90 min", "write 5400, the seconds of 90 min"),
        ("sharedMemory: {sizeLimit: 8}", 'write "8" in quotes'),
        ("runtime: {rngTypes: torch}", "write a list, [torch]"),
        ("failurePolicy: {rules: {action: Fail, exitCodes: [3]}}", "write a list, each entry"),
        ("failurePolicy: {rules: [{action: Fail, exitCodes: 3}]}", "write a list, [3]"),
    ],
)
def test_a_repair_is_advised_that_was_tried(value: str, advice: str) -> None:
    text = json.dumps(job()["spec"]["template"])
    head = "apiVersion: accelerated.dev/v1alpha1\nkind: AcceleratedJob\nmetadata: {name: a}\n"
    (fault,) = told(f"{head}spec:\n  template: {text}\n  {value}\n")
    assert fault.endswith(f": {advice}") or f": {advice}" in fault


@pytest.mark.parametrize("value", ["replicas: two", "replicas: 0", "replicas: '0'", "suspend: 1"])
def test_no_repair_is_advised_that_does_not_help(value: str) -> None:
    made = job() | {"spec": job()["spec"] | yaml.safe_load(value)}
    (fault,) = report.of_file(json.dumps(made).encode()).faults
    assert "write" not in fault.message


def test_what_was_set_since_is_checked_at_the_place_of_what_has_it() -> None:
    data = json.dumps(job(), indent=1).encode()
    (document,) = source.read(data).documents
    changed = replaced(document.value, ("spec",), job(replicas=0, network={"prot": 1})["spec"])
    found = report.of_file(data, edit=lambda _: changed)
    assert [(one.field, one.place) for one in found.faults] == [
        ("spec.network.prot", document.find("spec").place),
        ("spec.replicas", document.find("spec.replicas").place),
    ]
    assert found.jobs == (changed,)
    assert report.of_file(data).faults == ()


def test_a_document_of_another_kind_is_told_that_alone() -> None:
    assert told("apiVersion: batch/v1\nkind: Job\nmetadata: {}\nspec: {completions: 1}") == [
        "1:1: apiVersion: must be accelerated.dev/v1alpha1, got 'batch/v1'",
        "2:1: kind: must be AcceleratedJob, got 'Job'",
    ]
    misspelt = TEXT.replace("kind: AcceleratedJob", "kind: Acceleratedjob")
    assert len(told(misspelt)) == len(told(TEXT)) + 1


def test_so_many_faults_are_told_and_no_more() -> None:
    made = job(**{f"x{i}": 1 for i in range(1000)})
    assert MAX_FAULTS <= len(check.faults(made)) <= 3 * MAX_FAULTS


@pytest.mark.parametrize(
    "spec",
    [
        {"template": {"spec": {"containers": [{"name": i} for i in range(3000)]}}},
        {"x": [[0] * 200] * 20},
        {"failurePolicy": {"rules": [{"action": 1}] * 3000}},
    ],
    ids=["containers", "lists", "rules"],
)
def test_a_large_manifest_is_checked_without_repairs(spec: Any) -> None:
    """A repair is tried by checking everything again."""
    tried = []

    def find(value: Any) -> list[InvalidSpec]:
        tried.append(value)
        return check.faults(value)

    (document,) = source.read(json.dumps(job() | {"spec": spec}).encode()).documents
    found = check.faults(document.value)
    assert list(hints.advised(document, found, find))
    assert tried == []


@pytest.mark.parametrize("key", ["", ".", "a.b", "[0]", "]", "x" * 2000, "é", "\n"])
def test_a_field_of_any_name_has_its_place(key: str) -> None:
    for made in (job() | {key: 1}, job(**{key: 1}), job(template={key: {}, "spec": {}})):
        faults = report.of_file(json.dumps(made, indent=1).encode()).faults
        assert faults
        assert all(fault.place.line >= 1 for fault in faults)


def test_checking_changes_nothing() -> None:
    made = job({"command": "x"}, replicas="2")
    before = copy.deepcopy(made)
    report.of_file(json.dumps(made).encode())
    check.faults(made)
    assert made == before
