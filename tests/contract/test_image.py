"""What images are made of: locked, with hashes, and no more than they run."""

import re
import subprocess
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
    "locks/operator.txt": PROJECT_FILE["project"]["optional-dependencies"]["operator"],
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


@pytest.mark.parametrize("lock", LOCKS)
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


def test_a_build_sees_only_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text("Dockerfile"), re.MULTILINE)
    seen = re.findall(r"^!(.+)$", text(".dockerignore"), re.MULTILINE)
    assert sorted(source for line in copied for source in line.split()) == sorted(seen)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the project."""
    command = ("make", "-C", str(PROJECT), "image", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


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


def test_without_an_engine_nothing_is_built_and_make_says_so() -> None:
    done = make("ENGINE=")
    assert done.returncode != 0
    assert "docker, podman or buildah must answer to 'info'; none does" in done.stderr
