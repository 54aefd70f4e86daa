"""The page on compatibility names the versions that the tests run with, and the lowest taken."""

import re

import pytest

from tests.contract.documents import read

ROWS = {
    name: (tested, needed)
    for name, tested, needed in re.findall(
        r"^\| ([^|]+) \| ([^|]*) \|.*\| ([^|]*) \|$", read("docs/compatibility.md"), re.MULTILINE
    )
}
MODULES = "tests/cluster/testbed/go"


def found(pattern: str, document: str) -> str:
    """What a pattern's group matches in a document, first."""
    match = re.search(pattern, read(document), re.MULTILINE)
    assert match, f"{document} must have {pattern}"
    return match[1]


@pytest.mark.parametrize(
    ("row", "package"),
    [("torch", "torch"), ("kopf", "kopf"), ("kubernetes (the client)", "kubernetes")],
)
def test_packages(row: str, package: str) -> None:
    tested = found(rf"^{package}==(\S+)$", "constraints.txt")
    assert ROWS[row] == (tested, found(rf'"{package}>=([\d.]+)"', "pyproject.toml"))


def test_a_clusters_programs() -> None:
    kubernetes = found(r"k8s.io/kubernetes v([\d.]+)", f"{MODULES}/kube/go.mod")
    lowest = found(r'^kubeVersion: ">=([\d.]+?)\.0', "charts/acceleratedjob/Chart.yaml")
    assert ROWS["Kubernetes"] == (kubernetes, lowest)
    assert ROWS["Helm"][0] == found(r"helm.sh/helm/v3 v([\d.]+)", f"{MODULES}/helm/go.mod")


def test_python() -> None:
    assert ROWS["Python"][1] == found(r'requires-python = ">=([\d.]+)"', "pyproject.toml")
