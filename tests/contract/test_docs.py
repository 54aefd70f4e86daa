"""What the documents show is run: a snippet that does not work is a failed test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob import cli
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from docs import chart, reference
from tests.attempts import env_of
from tests.contract.documents import DOCUMENTS, PROJECT, jobs, objects, read, snippets

README = read("README.md")
REFERENCE = PROJECT / "docs/api"
TRAINING = """
import torch
torch.manual_seed(0)
def build():
    model = torch.nn.Linear(3, 2)
    data = torch.utils.data.TensorDataset(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    return model, torch.optim.SGD(model.parameters(), lr=0.1), loader
{script}
print([parameter.tolist() for parameter in model.parameters()])
"""


def test_the_readmes_manifest_is_short_and_makes_its_service_and_pods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "job.yaml"
    (text,) = snippets(README, "yaml")
    manifest.write_text(text)
    assert len(text.splitlines()) <= 15
    assert cli.main(["render", str(manifest)]) == 0
    assert re.findall(r"^kind: (\w+)", capsys.readouterr().out, re.MULTILINE) == [
        *("Service", "Pod", "Pod")
    ]


@pytest.mark.parametrize("manifest", [pytest.param(job, id=name) for name, job in jobs()])
def test_a_documents_job_can_be_run(manifest: Manifest) -> None:
    JobSpec.from_manifest(manifest)


def containers(manifest: Any) -> list[Any]:
    """All containers in a manifest's templates."""
    if isinstance(manifest, dict):
        own: list[Any] = manifest.get("containers", [])
        return own + [one for value in manifest.values() for one in containers(value)]
    return []


WHO = {"node-rank", "master-addr"}  # named otherwise in each pod, and in each job


def test_the_same_job_elsewhere_is_the_same() -> None:
    """In image, devices and pods; what its flags say stands in our pods' environment."""
    service, indexed, ours, theirs = objects("docs/moving.md")
    (container,) = containers(ours)
    pods = ours["spec"]["replicas"]
    roles = theirs["spec"]["pytorchReplicaSpecs"].values()
    assert pods == indexed["spec"]["completions"] == sum(role["replicas"] for role in roles)
    env = env_of(JobSpec.from_manifest(ours), attempt=0, index=1)
    assert env["PET_NPROC_PER_NODE"] == theirs["spec"]["nprocPerNode"]
    for other in (*containers(indexed), *containers(theirs)):
        assert {**other, **container} == other | {
            "name": "trainer",
            "command": ["torchrun", "train.py"],
        }
        flags = dict(word[2:].split("=") for word in other["command"] if word.startswith("--"))
        for flag in flags.keys() - WHO:
            assert env[f"PET_{flag.replace('-', '_').upper()}"] == flags[flag]
    labels = {"batch.kubernetes.io/job-name": indexed["metadata"]["name"]}
    assert service["spec"]["selector"] == labels


def run(script: str, folder: Path) -> list[str]:
    """What a script prints."""
    (folder / "script.py").write_text(script)
    env = os.environ | {"PYTHONPATH": str(PROJECT), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def sides(diff: str) -> tuple[str, str]:
    """A script before and after a change that is shown."""
    before, after = (
        "\n".join(line[1:] for line in diff.splitlines() if line[:1] in ("", " ", kept))
        for kept in "-+"
    )
    return before, after


def test_the_readmes_script_trains_the_same_before_and_after_its_seven_changed_lines(
    tmp_path: Path,
) -> None:
    diff = snippets(README, "diff")[0]
    assert sum(line[0] in "+-" for line in diff.splitlines()) == 7
    before, after = (run(TRAINING.format(script=side), tmp_path) for side in sides(diff))
    assert before == after != []


SHOW = "\nprint([parameter.tolist() for parameter in model.parameters()])\n"
LOAD = (
    "torch.nn.init.zeros_(accelerator.unwrap_model(model).weight)\naccelerator.load_state('it')\n"
)


def test_a_script_for_accelerate_trains_the_same_and_loads_its_checkpoint(tmp_path: Path) -> None:
    (diff,) = snippets(read("docs/migration.md"), "diff")
    before, after = sides(diff)
    (theirs,) = run(f"{before}{SHOW}accelerator.save_state('it')\n", tmp_path)
    assert run(f"{after}{SHOW}{LOAD}{SHOW}", tmp_path) == [theirs, theirs]


CLIENT = "docs/client.md"  # run in tests/operator/test_client_page.py, with a cluster


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if name != CLIENT and snippets(read(name), "python")]
)
def test_a_documents_python_runs(document: str, tmp_path: Path) -> None:
    """All blocks of a document are one script."""
    run("\n".join(snippets(read(document), "python")), tmp_path)


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if snippets(read(name), "json")])
def test_a_documents_json_can_be_read(document: str) -> None:
    assert all(json.loads(one) for one in snippets(read(document), "json"))


def test_what_is_not_run_is_known() -> None:
    """`py` is a signature, of generated pages only; pycon, doctests of the source, run there."""
    kinds = {
        (kind, document.startswith("docs/api/"))
        for document in DOCUMENTS
        for kind in re.findall(r"^```(\w*)\n.*?^```$", read(document), re.MULTILINE | re.DOTALL)
    }
    assert kinds <= {
        *(("py", True), ("pycon", True)),
        *((kind, False) for kind in ("python", "diff", "json", "yaml", "sh", "mermaid")),
    }


def test_the_reference_is_what_the_source_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert written == reference.pages(), "run `make docs`"


def test_the_charts_readme_has_its_values_with_their_comments() -> None:
    assert chart.README.read_text(encoding="utf-8") == chart.readme(), "run `make docs`"
    text = "# A group\na:\n  # One.\n  # Two.\n  b: {c: 1}\n\n# A list\nd:\n  - 1\n"
    assert list(chart.values(text)) == [
        ("a", "", "A group"),
        ("a.b", '{"c": 1}', "One. Two."),
        ("d", "[1]", "A list"),
    ]


def test_everything_public_is_explained_and_no_argument_by_another_name() -> None:
    assert reference.undocumented() == []
    assert reference.misnamed() == []


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    documents = README + (PROJECT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^make ([a-z-]+)", documents, re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    path = PROJECT / document
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))  # code has no links
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
