"""`submit` and `delete` on a real API server, and the program as a plugin of a real kubectl."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.jobs import Job, fake_job
from tests.cluster.test_commands import ask
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

DATA = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": {"a": "1"}}
PROGRAM = """#!{python}
import sys
sys.path.insert(0, {operator!r})
from acceleratedjob.cli{module} import {function}
sys.exit({function}())
"""


@pytest.fixture
def unserved(testbed: Cluster, namespace: str) -> Job:
    """A namespace that no operator serves."""
    return Job(testbed, namespace)


def write(folder: Path, *documents: Any) -> str:
    """A file with documents."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def manifest() -> dict[str, Any]:
    """A job without a namespace."""
    made = fake_job("")
    del made["metadata"]["namespace"]
    return made


def test_a_job_is_tried_submitted_changed_and_deleted(unserved: Job, tmp_path: Path) -> None:
    path = write(tmp_path, manifest(), DATA)
    suspended = (path, "--set", "spec.suspend=true")
    code, out, errors = ask(unserved, "submit", *suspended, "--dry-run")
    assert (code, errors) == (0, "")
    assert out == "ConfigMap data would be applied\nAcceleratedJob digits would be created\n"
    assert set(unserved.names("aj,configmaps")) <= {"kube-root-ca.crt"}  # which a controller makes

    code, out, errors = ask(unserved, "submit", *suspended)
    assert (code, errors) == (0, "")
    assert out.splitlines()[:2] == ["ConfigMap data is applied", "AcceleratedJob digits is created"]
    assert unserved.get(".spec.suspend") == "true"
    assert "AcceleratedJob digits is unchanged" in ask(unserved, "submit", *suspended)[1]
    assert (
        "AcceleratedJob digits is changed" in ask(unserved, "submit", *suspended, "--replicas=3")[1]
    )
    assert unserved.get(".spec.replicas") == "3"

    listed = json.loads(ask(unserved, "status", "-o", "json")[1])
    assert [one["metadata"]["name"] for one in listed["items"]] == ["digits"]
    assert yaml.safe_load(ask(unserved, "status", "digits", "-o", "yaml")[1])["kind"] == (
        "AcceleratedJob"
    )
    assert ask(unserved, "delete", "digits") == (0, "digits is deleted\n", "")
    assert ask(unserved, "delete", "digits")[0] == 3


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        pytest.param(
            {"spec": {"replcas": 1}}, 2, "spec.replcas: is not a field of spec", id="here already"
        ),
        pytest.param(
            {"metadata": {"annotations": {"a..b/c": "no DNS name"}}},
            4,
            "metadata.annotations",
            id="by the API server",
        ),
        pytest.param(
            {"metadata": {"namespace": "other"}}, 2, "set -n other", id="another namespace"
        ),
    ],
)
def test_what_is_refused(
    unserved: Job, tmp_path: Path, change: dict[str, Any], code: int, sentence: str
) -> None:
    made = manifest()
    for section, fields in change.items():
        made[section] |= fields
    found, out, errors = ask(unserved, "submit", write(tmp_path, made))
    assert (found, out) == (code, "")
    assert sentence in errors
    assert unserved.names("aj") == []


def test_a_field_of_another_manager_is_a_conflict_with_its_name(
    unserved: Job, tmp_path: Path
) -> None:
    unserved.apply(fake_job(unserved.namespace, suspend=True))
    path = write(tmp_path, manifest() | {"spec": manifest()["spec"] | {"replicas": 3}})
    code, _, errors = ask(unserved, "submit", path)
    assert code == 4
    assert ".spec.replicas" in errors
    assert "delete the job first" in errors


def test_a_job_that_runs_is_deleted_with_force(job: Job) -> None:
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    code, _, errors = ask(job, "delete", "digits")
    assert (code, "use --force" in errors) == (2, True)
    assert ask(job, "delete", "digits", "--force") == (0, "digits is deleted\n", "")
    job.wait_gone("pods", "--all")


def test_kubectl_runs_the_program_as_its_plugin_and_completes_its_words(
    unserved: Job, tmp_path: Path
) -> None:
    unserved.apply(fake_job(unserved.namespace))
    for name, module, function in (
        ("kubectl-acceleratedjob", "", "main"),
        ("kubectl_complete-acceleratedjob", ".completion", "complete_for_kubectl"),
    ):
        program = tmp_path / name
        text = {"python": sys.executable, "operator": str(PROJECT / "operator")}
        program.write_text(PROGRAM.format(**text, module=module, function=function))
        program.chmod(0o755)

    def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "KUBECONFIG": str(unserved.cluster.kubeconfig),
        }
        command = [unserved.cluster.program, *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=240
        )

    place = ("-n", unserved.namespace)
    done = kubectl("acceleratedjob", "why", "digits", *place)
    assert done.stdout.startswith("digits has no status, "), done.stderr
    assert "Usage: kubectl acceleratedjob why " in kubectl("acceleratedjob", "why", "-h").stdout
    words = kubectl("__complete", "acceleratedjob", "why", *place, "").stdout.splitlines()
    assert words[0] == "digits"
    words = kubectl("__complete", "acceleratedjob", "st").stdout.splitlines()
    assert [one.partition("\t")[0] for one in words[:2]] == ["status", "stop"]
