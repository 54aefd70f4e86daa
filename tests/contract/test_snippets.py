"""Every command that README.md and the quick start show is run by a test, as it stands there."""

import ast
import os
import re
import shlex
import subprocess

import pytest
import yaml

from acceleratedjob import cli
from acceleratedjob.api.names import KIND
from tests.contract.documents import DOCUMENTS, PROJECT, command, commands, functions, objects

PAGES = ("README.md", "docs/quickstart.md")
HERE = "tests/contract/test_snippets.py"
IMAGES = f"{HERE}::test_what_is_pushed_is_what_is_built_and_the_operator_what_is_installed"
PAGE = "tests/cluster/test_pages.py::test_the_commands_of_the_quick_start"
# How a command begins -> the tests that run it, or say why its words are those of one that is run.
RUN_BY = {
    "make demo": (
        "tests/distributed/test_examples.py::"
        "test_the_demo_kills_a_rank_and_goes_on_from_the_newest_checkpoint"
    ),
    "make test": f"{HERE}::test_make_test_is_these_tests",
    ".venv/bin/acceleratedjob render": f"{HERE}::test_the_quick_start_renders_the_example",
    "pip install": "tests/contract/test_wheel.py::test_a_job_runs_without_an_extra",
    "acceleratedjob run": (
        "tests/distributed/test_examples.py::"
        "test_an_example_trains_with_every_rank_and_to_the_loss_of_one_process"
    ),
    "make image": IMAGES,
    "docker push my-registry/acceleratedjob": IMAGES,
    "docker build": f"{HERE}::test_the_training_image_is_that_of_the_manifest",
    "docker push my-registry/digits": f"{HERE}::test_the_training_image_is_that_of_the_manifest",
    "helm install": PAGE,
    "kubectl apply": PAGE,
    "kubectl get": PAGE,
    "kubectl wait": PAGE,
    "acceleratedjob why": PAGE,
    "acceleratedjob logs": (
        "tests/cluster/test_commands.py::"
        "test_the_logs_of_real_pods_and_the_exception_that_one_ends_with"
    ),
}
PROGRAM = re.compile(r"^(\S*/|kubectl )?acceleratedjob ")
TAG = re.compile(r"\S+/acceleratedjob-[\w$]+:\S+")


def dry(line: str, **variables: str) -> str:
    """What make would do."""
    assigned = " ".join(f"{name}={value}" for name, value in variables.items())
    flags = f"n --no-print-directory -- {assigned}"
    env = os.environ | {"MAKEFLAGS": flags}
    done = subprocess.run(
        line.split(), cwd=PROJECT, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_by_a_test_that_there_is(page: str) -> None:
    for line in commands(page):
        (test,) = (test for begins, test in RUN_BY.items() if line.startswith(begins))
        file, _, name = test.partition("::")
        assert name in functions(ast.parse((PROJECT / file).read_text()).body)


def test_the_readme_shows_no_other_way_than_the_quick_start() -> None:
    assert set(commands("README.md")) - {"make test"} <= set(commands("docs/quickstart.md"))


def test_make_test_is_these_tests() -> None:
    assert "-m pytest --numprocesses 2" in dry(command("README.md", "make test")).splitlines()[-1]


def test_the_quick_start_renders_the_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    line = command("docs/quickstart.md", ".venv/bin/acceleratedjob render").split()
    assert cli.main(line[1:]) == 0
    assert re.findall(r"^kind: (\w+)", capsys.readouterr().out, re.MULTILINE) == [
        *("Service", "Pod", "Pod")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_pushed_is_what_is_built_and_the_operator_what_is_installed(page: str) -> None:
    """`tests/cluster/test_release.py` builds both and installs the one, in its own registry."""
    told = dry(command(page, "make image"), ENGINE="docker")
    names = re.findall(r"for name in (.+?);", told)[0].split()
    built = {tag.replace("$name", name) for tag in TAG.findall(told) for name in names}
    pushed = {
        one
        for line in commands(page)
        if line.startswith("docker push")
        for one in TAG.findall(line)
    }
    (repository,) = re.findall(r"image\.repository=(\S+)", command(page, "helm install"))
    version = yaml.safe_load((PROJECT / "charts/acceleratedjob/Chart.yaml").read_text())[
        "appVersion"
    ]
    assert f"{repository}:{version}" in pushed <= built


def test_the_training_image_is_that_of_the_manifest() -> None:
    """`tests/contract/test_examples.py` looks at the Dockerfile."""
    (built,) = (line.split() for line in commands("docs/quickstart.md") if "docker build" in line)
    told = dict(zip(built[2:-1:2], built[3:-1:2], strict=True))
    (job,) = (one for one in objects("README.md") if one["kind"] == KIND)
    assert told["--tag"] == job["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f"docker push {told['--tag']}" in commands("docs/quickstart.md")
    runtime = told["--build-arg"].removeprefix("RUNTIME=")
    assert f"docker push {runtime}" in commands("docs/quickstart.md")
    assert (PROJECT / built[-1] / "Dockerfile").exists()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_of_a_document_can_be_parsed(document: str) -> None:
    lines = [line for line in commands(document) if PROGRAM.match(line)]
    for line in lines:
        name, *words = shlex.split(PROGRAM.sub("", line).partition(" > ")[0])
        with cli.program.commands[name].make_context(name, words):
            pass
