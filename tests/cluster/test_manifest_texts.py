"""The commands and a cluster accept the same texts, and read them alike."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from acceleratedjob.validation import pod_types, scalars
from docs.manifest_errors import recorded
from docs.wrong_manifests import RIGHT, WRONG, Case
from tests.cluster.conftest import Kubectl, fresh_namespace
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.verdicts import ACCEPTED, Asker
from tests.contract import pods

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd"), pytest.mark.slow]

STRICTER = {"Latin-1", "a tag", "a key that is given twice"}  # than kubectl, on purpose
WORDS = """
    y Y yes Yes YES yEs n no No NO on On ON oN off OFF true True TRUE tRue false null Null ~ nUll
    010 08 0o17 0O17 0x1F 0b101 -0b1 -010 +5 1_000 1__0 _1 1_ 1.0 1.5 .5 5. 1e3 1e+3 1E-2 1e400
    12e03 1:30 2026-01-01 2026-01-01T00:00:00Z 1e20 1e21 1e22 two 1a 0 00 -0 +0 0.0 -0.0 . + 1,000
    8Gi 0777 0_7 0x_1 1.5_0 +.5 -.5 1.e3 0b12 0x 0o8 .1e1 1e 1_0.5 +0x1F -0o7 9007199254740993.0
    9223372036854775807 -9223372036854775808 18446744073709551616 0xFFFFFFFFFFFFFFFFF
"""


@pytest.fixture(scope="module")
def asker(testbed: Cluster) -> Iterator[Asker]:
    """Asks in a namespace in which nothing is kept."""
    with fresh_namespace(testbed.kubectl) as namespace:
        yield Asker(testbed, namespace)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.about) for case in WRONG])
def test_a_cluster_says_of_a_wrong_manifest_what_the_page_shows(asker: Asker, case: Case) -> None:
    said = asker.verdict(case.data())
    assert said == recorded()[case.about], "run `python -m tests.cluster.verdicts`"
    assert (said == ACCEPTED) == (case.about in STRICTER)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.about) for case in RIGHT])
def test_a_cluster_accepts_a_right_manifest(asker: Asker, case: Case) -> None:
    assert asker.verdict(case.data()) == ACCEPTED


def test_a_cluster_refuses_and_accepts_the_pods_that_the_commands_do(asker: Asker) -> None:
    wrong = [pods.manifest(*row.values) for row in pods.rows()]
    right = [pods.manifest(pods.Wrong(text, ""), True) for text in pods.RIGHT]
    jobs = {f"wrong-{i}": one for i, one in enumerate(wrong)}
    jobs |= {f"right-{i}": one for i, one in enumerate(right)}
    for name, one in jobs.items():
        one["metadata"] = {"name": name}
    accepted = {name.removesuffix("-0-0") for name in asker.accepted_pods(jobs.values())}
    assert accepted == {name for name in jobs if name.startswith("right")}


def test_scalars_are_read_as_kubectl_reads_them(testbed: Cluster) -> None:
    """`kubectl label --local` prints what it has read, and asks no server."""
    words = WORDS.split()
    data = "".join(f"  k{index}: {word}\n" for index, word in enumerate(words))
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{data}"
    command = [testbed.program, "label", "--local", "--filename=-", "--output=json", "a=b"]
    done = subprocess.run(
        command, input=text.encode(), capture_output=True, check=True, timeout=240
    )
    read: dict[str, Any] = json.loads(done.stdout)["data"]
    theirs = {word: as_float(read[f"k{index}"]) for index, word in enumerate(words)}
    assert {word: as_float(scalars.read(word)) for word in words} == theirs


def as_float(value: Any) -> Any:
    """A number beyond 64 bits as kubectl rounds it; every other value with its type."""
    is_large = isinstance(value, int) and abs(value) >= 2**63
    return (float, float(value)) if is_large else (type(value), value)


def test_pods_have_all_fields_that_the_api_server_knows(kubectl: Kubectl) -> None:
    """The package may know fields of later versions, which this server does not have."""
    served = json.loads(kubectl("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    known = pod_types.table()["types"]
    compared = 0
    for name, schema in served.items():
        kind = name.rpartition(".")[2]
        fields = schema.get("properties", {})
        if kind in known and name.startswith("io.k8s.api.core.v1."):
            compared += 1
            assert fields.keys() <= known[kind].keys(), kind
            quantities = {
                field for field, inner in fields.items() if "resource.Quantity" in str(inner)
            }
            assert quantities == {field for field in fields if "quantity" in known[kind][field]}, (
                kind
            )
    assert compared > 80
