"""What `pip install` of the project gives: commands that need no more than it depends on."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2]
UV = Path(sys.prefix) / "bin" / "uv"
JOB = PROJECT / "examples" / "digits" / "job.yaml"
HELLO = """
apiVersion: accelerated.dev/v1alpha1
kind: AcceleratedJob
metadata: {name: hello}
spec:
  template:
    spec:
      containers: [{name: trainer, image: hello, command: [python, -c, "print('hello')"]}]
"""

pytestmark = pytest.mark.slow


def build(folder: Path) -> Path:
    """The project's wheel, built by what is pinned for it or was fetched before."""
    command = [str(UV), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(PROJECT)]
    may_fetch = os.environ.get("CI") == "true"
    env = os.environ | ({} if may_fetch else {"UV_OFFLINE": "1"})
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not may_fetch and re.search("network|offline|cache", done.stderr):
        pytest.skip("hatchling was not fetched here yet, so no wheel can be built")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def needed(package: Distribution) -> list[str]:
    """The names of what a package depends on, without extras."""
    wanted = map(Requirement, package.requires or ())
    here = (one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""}))
    return [name for direct in here for name in (direct, *needed(distribution(direct)))]


def copy(package: Distribution, into: Path) -> None:
    """Install a package as this environment has it."""
    for file in package.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = into.joinpath(*file.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, what it depends on, and no extra."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel, venv = build(folder), folder / "venv"
    for command in (
        [UV, "venv", "--quiet", "--offline", "--python", sys.executable, venv],
        [UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", venv, wheel],
    ):
        subprocess.run(list(map(str, command)), check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (installed,) = Distribution.discover(name="acceleratedjob", path=[str(packages)])
    for name in needed(installed):
        copy(distribution(name), packages)
    return venv / "bin"


def run(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, far from the project."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [str(bare / "acceleratedjob"), *arguments]
    return subprocess.run(
        command, cwd=bare, env=kept, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "submit --help", "operator --help", "why --help"]
)
def test_help_needs_no_extra(bare: Path, command: str) -> None:
    done = run(bare, *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: acceleratedjob")


def test_the_version_and_completion_need_no_extra(bare: Path) -> None:
    (installed,) = Distribution.discover(
        name="acceleratedjob",
        path=[str(one) for one in bare.parent.glob("lib/python*/site-packages")],
    )
    assert run(bare, "--version").stdout == f"acceleratedjob {installed.version}\n"
    script = run(bare, "completion", "zsh")
    assert (script.returncode, script.stderr) == (0, "")
    done = subprocess.run(
        [bare / "kubectl_complete-acceleratedjob", "val"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("validate\tcheck manifests\n:4\n", "")


def test_kubectl_finds_the_program_as_its_plugin(bare: Path) -> None:
    done = subprocess.run(
        [bare / "kubectl-acceleratedjob", "why", "--help"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.startswith("Usage: kubectl acceleratedjob why ")


def test_a_job_is_rendered_without_an_extra(bare: Path) -> None:
    done = run(bare, "render", str(JOB))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall("^kind: (.+)$", done.stdout, re.MULTILINE) == ["Service", "Pod", "Pod"]


def test_a_job_runs_without_an_extra(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(HELLO)
    done = run(bare, "run", str(tmp_path / "job.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "[0] hello" in done.stdout


def test_a_manifest_is_checked_without_an_extra(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(HELLO.replace("image", "imgae"))
    done = run(bare, "render", str(tmp_path / "job.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "imgae: is not a field of" in done.stderr


def test_a_local_client_trains_without_an_extra(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('hello')")
    code = "from acceleratedjob import Client\n"
    code += "with Client.local() as client: print(*client.train('train.py', wait=True).logs())\n"
    code += "Client()"
    command = [str(bare / "python"), "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout == "rank 0 | hello\n", done.stderr
    assert "pip install 'acceleratedjob[operator]'" in done.stderr


def test_the_page_of_the_progress_is_in_the_wheel(bare: Path) -> None:
    code = "from runtime.control.progress.page import to_html; "
    code += "from runtime.control.progress.snapshot import Snapshot; print(to_html(Snapshot()))"
    command = [str(bare / "python"), "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "<!doctype html>" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "command", ["operator", "why digits", "status", "logs digits", "delete digits", f"submit {JOB}"]
)
def test_a_command_that_needs_an_extra_says_which_in_one_sentence(bare: Path, command: str) -> None:
    done = run(bare, *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "pip install 'acceleratedjob[operator]'" in line
