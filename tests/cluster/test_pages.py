"""Commands of the pages as they stand there, against a real API server with fake nodes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from acceleratedjob.api.names import KIND
from tests.cluster.jobs import Job, fake_job
from tests.cluster.operators import operator
from tests.cluster.test_operator import end
from tests.cluster.testbed import binaries, kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import PROJECT
from tests.contract.documents import command, objects, read, snippets

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

QUICK, OPERATIONS = "docs/quickstart.md", "docs/operations.md"
SAVE, RESTORE = (text for text in snippets(read(OPERATIONS), "sh") if "jobs.json" in text)


@dataclass(frozen=True, slots=True)
class Shell:
    """A person's shell: a folder, a namespace, and the programs that the pages name."""

    cluster: Cluster
    folder: Path
    namespace: str

    def prepare(self) -> None:
        """Put programs on the path, and the namespace into a kubeconfig of its own."""
        programs, helm = self.folder / "bin", str(binaries.program("helm"))
        programs.mkdir()
        for name, path in (("kubectl", self.cluster.program), ("helm", helm)):
            found = shutil.which(path)
            assert found is not None, path
            (programs / name).symlink_to(found)
        ours = programs / "acceleratedjob"
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m acceleratedjob "$@"\n')
        ours.chmod(0o700)
        shutil.copy(self.cluster.kubeconfig, self.folder / "kubeconfig")
        self.run(f"kubectl config set-context --current --namespace={self.namespace}")

    def start(self, text: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
        """A command that goes on."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=cwd or self.folder,
            env=os.environ | {"PATH": path, "KUBECONFIG": str(self.folder / "kubeconfig")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str, cwd: Path | None = None) -> str:
        """What commands print that must succeed."""
        process = self.start(text, cwd)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, f"{text}\n{output}"
        return output

    def until(self, text: str, word: str) -> None:
        """Read what a command prints until a word of it, and end it."""
        process = self.start(f"exec {text}")
        assert process.stdout is not None
        assert any(word in line for line in process.stdout)
        process.terminate()
        process.communicate(timeout=240)


@pytest.fixture
def shell(testbed: Cluster, namespace: str, tmp_path: Path) -> Shell:
    made = Shell(testbed, tmp_path, namespace)
    made.prepare()
    return made


@pytest.fixture
def installed(shell: Shell, testbed: Cluster) -> Iterator[str]:
    """What the quick start's helm says; the definition is there already, and not helm's."""
    line = command(QUICK, "helm install")
    yield shell.run(f"{line} --set crds.enabled=false", cwd=PROJECT)
    shell.run("helm uninstall acceleratedjob --namespace acceleratedjob --wait --timeout 120s")
    testbed.kubectl("delete", "namespace", "acceleratedjob", "--wait=false")


def test_the_commands_of_the_quick_start(installed: str, shell: Shell, job: Job) -> None:
    """The operator that works is a process, as no program runs on fake nodes."""
    assert "STATUS: deployed" in installed
    assert "The operator serves all namespaces" in installed
    upgraded = shell.run(command(OPERATIONS, "helm upgrade"), cwd=PROJECT)
    assert "REVISION: 2" in upgraded
    (manifest,) = (one for one in objects("README.md") if one["kind"] == KIND)
    pod = manifest["spec"]["template"]["spec"]
    pod |= kwok.PLACEMENT
    del pod["containers"][0]["resources"]
    (shell.folder / "job.yaml").write_text(yaml.safe_dump(manifest))

    assert shell.run(command(QUICK, "kubectl apply")).endswith("/digits created\n")
    shell.until(command(QUICK, "kubectl get"), "Running")
    assert "digits in" in shell.run(command(QUICK, "acceleratedjob why"))
    for index in range(manifest["spec"]["replicas"]):
        end(job, f"digits-0-{index}", 0)
    shell.until(command(QUICK, "kubectl get"), "Succeeded")
    assert "condition met" in shell.run(command(QUICK, "kubectl wait"))


@pytest.fixture
def saved(shell: Shell, tmp_path: Path) -> Job:
    """Two jobs, one that has ended and one in its second attempt, saved as the page says; gone."""
    if shutil.which("jq") is None:
        pytest.skip("the page's command needs jq")
    job = Job(shell.cluster, shell.namespace, "going")
    with operator(job.cluster.kubeconfig, tmp_path / "before.log", job.namespace):
        for name in ("going", "done"):
            job.apply(fake_job(job.namespace, name=name, replicas=1))
            job.wait_for(name, "jsonpath={.status.phase}=Running")
        end(job, "done-0-0", 0)
        end(job, "going-0-0", 1)
        job.wait_for("done", "condition=Complete")
        job.wait("jsonpath={.status.attempt}=1")
        job.wait("jsonpath={.status.phase}=Running")
    shell.run(SAVE.replace("--all-namespaces", f"--namespace {job.namespace}"))
    job.kubectl("delete", "aj", "--all")
    job.wait_gone("pods,services", "--all")
    return job


def test_restored_with_their_status_jobs_go_on_and_what_has_ended_has(
    saved: Job, shell: Shell, tmp_path: Path
) -> None:
    shell.run(RESTORE)
    with operator(saved.cluster.kubeconfig, tmp_path / "after.log", saved.namespace):
        saved.wait("jsonpath={.status.attempt}=2")
        saved.wait("jsonpath={.status.phase}=Running")
        assert saved.names("pods") == ["going-2-0"]
    assert saved.get(".status.restarts") == "1"  # the one before
    assert saved.get(".status.failures[*].reason") == "PodDeleted Error"
    saved.wait_for("done", "condition=Complete")


def test_restored_without_its_status_a_job_begins_anew_also_if_it_had_ended(
    saved: Job, shell: Shell, tmp_path: Path
) -> None:
    shell.run(RESTORE.splitlines()[0])
    with operator(saved.cluster.kubeconfig, tmp_path / "after.log", saved.namespace):
        for name in ("going", "done"):
            saved.wait_for(name, "jsonpath={.status.phase}=Running")
        assert saved.names("pods") == ["done-0-0", "going-0-0"]
    assert saved.get(".status.restarts") in ("", "0")
