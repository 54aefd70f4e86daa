"""What the documents show is run: a snippet that does not work is a failed test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from acceleratedjob import cli

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    str(path.relative_to(PROJECT))
    for path in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
]
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


def snippet(language: str) -> str:
    """The README's first snippet in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, language
    return found[1]


def test_the_readmes_manifest_is_short_and_makes_its_service_and_pods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "job.yaml"
    manifest.write_text(snippet("yaml"))
    assert len(snippet("yaml").splitlines()) <= 15
    assert cli.main(["render", str(manifest)]) == 0
    assert re.findall(r"^kind: (\w+)", capsys.readouterr().out, re.MULTILINE) == [
        *("Service", "Pod", "Pod")
    ]


def test_the_readmes_script_trains_the_same_before_and_after_its_five_changed_lines() -> None:
    lines = snippet("diff").splitlines()
    assert sum(line[0] in "+-" for line in lines) == 5
    before, after = (
        "\n".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +")
    )
    weights = [
        subprocess.run(
            [sys.executable, "-c", TRAINING.format(script=script)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for script in (before, after)
    ]
    assert weights[0] == weights[1] != ""


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    documents = README + (PROJECT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^make ([a-z-]+)", documents, re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    path = PROJECT / document
    links = re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
