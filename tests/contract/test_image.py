"""What images are made of: locked, with hashes, and no more than they run."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs import licenses

PROJECT = Path(__file__).parents[2]
PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = {  # what each is to satisfy
    "locks/operator.txt": [
        *PROJECT_FILE["project"]["dependencies"],
        *PROJECT_FILE["project"]["optional-dependencies"]["operator"],
    ],
    "locks/build.txt": PROJECT_FILE["build-system"]["requires"],
}


def text(name: str) -> str:
    """A file's text."""
    return (PROJECT / name).read_text(encoding="utf-8")


def holds(requirement: Requirement) -> bool:
    """Whether a requirement is one on Linux, without extras."""
    place = {"sys_platform": "linux", "platform_system": "Linux", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(place)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_the_project(lock: str) -> None:
    versions = licenses.locked(PROJECT / lock)
    for wanted in map(Requirement, LOCKS[lock]):
        assert versions[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_the_operators_lock_holds_what_its_packages_need_too() -> None:
    versions = licenses.locked(licenses.LOCK)
    for package in versions:
        for needed in map(Requirement, requires(package) or ()):
            if holds(needed):
                found = versions[canonicalize_name(needed.name)]
                assert found in needed.specifier, f"{package} needs {needed}"


@pytest.mark.parametrize("lock", LOCKS)
def test_the_image_gets_the_versions_that_the_tests_pass_with(lock: str) -> None:
    tested = licenses.locked(PROJECT / "constraints.txt")
    versions = licenses.locked(PROJECT / lock)
    assert versions == {name: tested[name] for name in versions}


@pytest.mark.parametrize("lock", [*LOCKS, "locks/uv.txt"])
def test_each_package_of_a_lock_has_a_hash_and_no_place_it_comes_from(lock: str) -> None:
    packages = re.split(r"^(?=\S)", text(lock), flags=re.MULTILINE)[1:]
    whole = r"[\w.-]+==\S+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+"
    assert len(packages) == len(licenses.locked(PROJECT / lock))
    assert [one for one in packages if not re.fullmatch(whole, one)] == []


def test_the_page_of_licences_is_what_the_packages_declare() -> None:
    assert licenses.PAGE.read_text(encoding="utf-8") == licenses.page(), "run `make licenses`"


def test_a_licence_that_nobody_has_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licenses, "ALLOWED", {"MIT"})
    with pytest.raises(ValueError, match=r"the licence of kubernetes must be .* 'Apache-2\.0'"):
        licenses.licence("kubernetes")


def write_bill(folder: Path) -> None:
    """Write the bill of materials with this environment's tools, of what was fetched before."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("python", "uv", "uvx"):
        (tools / name).symlink_to(Path(sys.prefix) / "bin" / name)
    command = ("make", "--silent", "sbom", f"VENV={folder}", f"DIST={folder}")
    may_fetch = os.environ.get("CI") == "true"
    env = os.environ | ({} if may_fetch else {"UV_OFFLINE": "1"})
    done = subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False
    )
    if not may_fetch and re.search("network|offline", done.stderr):
        pytest.skip("`make sbom` was not run here yet, so what it needs is not at hand")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_bill_of_materials_lists_exactly_what_is_locked(tmp_path: Path) -> None:
    write_bill(tmp_path)
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == (
        "CycloneDX",
        PROJECT_FILE["project"]["name"],
    )
    listed = {canonicalize_name(one["name"]): one for one in bill["components"]}
    versions = {name: one["version"] for name, one in listed.items()}
    assert versions == licenses.locked(licenses.LOCK)
    for name, one in listed.items():
        assert one["purl"].startswith(f"pkg:pypi/{name}@{one['version']}")
        assert one.get("licenses"), f"{name} has no licence in the bill"


FLAGS = {  # of `ENGINE build`: those that the manuals of all three have; and each one's own time
    "docker": ("--build-arg", "SOURCE_DATE_EPOCH="),
    "podman": ("--timestamp", ""),
    "buildah": ("--timestamp", ""),
}


@pytest.mark.parametrize("engine", FLAGS)
def test_an_image_is_built_with_flags_that_its_engine_has(engine: str) -> None:
    flag, value = FLAGS[engine]
    command = ("make", "--dry-run", "image", f"ENGINE={engine}", "EPOCH=7", "BASE=b", "VERSION=1")
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(rf"{engine} build (.*?);", told.replace("\\\n", " "))
    words = line.split()
    assert words[:2] == [flag, f"{value}7"]
    assert {word for word in words if word.startswith("--")} <= {
        *("--build-arg", "--target", "--tag", flag),
    }
    assert words[-1] == "."
    assert words[words.index("--tag") + 1] == "acceleratedjob-$name:1"


def test_a_build_sees_only_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text("Dockerfile"), re.MULTILINE)
    seen = re.findall(r"^!(.+)$", text(".dockerignore"), re.MULTILINE)
    assert sorted(source for line in copied for source in line.split()) == sorted(seen)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the project."""
    command = ("make", "-C", str(PROJECT), "image", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("engine", "same"),
    [
        ("docker", "--build-arg SOURCE_DATE_EPOCH="),
        ("podman", "--timestamp "),
        ("buildah --root store", "--timestamp "),
    ],
)
def test_each_engine_is_told_the_commits_time_its_own_way(engine: str, same: str) -> None:
    told = make("--dry-run", f"ENGINE={engine}", "BASE=mirror/python:3").stdout
    assert re.search(rf"{engine} build {same}\d+ .*--build-arg BASE=mirror/python:3", told), told
    version = PROJECT_FILE["project"]["version"]
    assert f"--target $name --tag acceleratedjob-$name:{version} ." in told


def test_a_base_image_that_is_named_by_a_tag_is_told() -> None:
    pinned = "BASE=mirror/python@sha256:" + "0" * 64
    told = make("--dry-run", "ENGINE=docker", pinned).stdout
    assert "TORCH is a tag" in told
    assert "BASE is a tag" not in told


def test_without_an_engine_nothing_is_built_and_make_says_so() -> None:
    done = make("ENGINE=")
    assert done.returncode != 0
    assert "docker, podman or buildah must work, but 'info' fails for all of them" in done.stderr
