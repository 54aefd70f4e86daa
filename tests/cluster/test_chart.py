"""The chart, as helm renders it: what it grants, and what it refuses to be told."""

from typing import Any

import pytest
import yaml

from tests.cluster.jobs import CHART
from tests.cluster.testbed import binaries
from tests.cluster.testbed.processes import TestbedFailed, run

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]


def render(*settings: str) -> list[dict[str, Any]]:
    """The chart's objects with some values set."""
    flags = [flag for setting in settings for flag in ("--set", setting)]
    place = ("--namespace", "system", "--kube-version", "1.34.0")
    helm = binaries.program("helm")
    return list(yaml.safe_load_all(run(helm, "template", "aj", CHART, *place, *flags)))


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = (entry for entry in objects if entry["kind"] == kind)
    return found


def rights(objects: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Resource -> verbs, of all roles together."""
    rules = [rule for entry in objects for rule in entry.get("rules", ())]
    return {
        f"{group}/{resource}": set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_operator_may_do_no_more_than_it_does() -> None:
    reading = {"get", "list", "watch"}
    assert rights(render()) == {
        "accelerated.dev/acceleratedjobs": reading | {"delete"},
        "accelerated.dev/acceleratedjobs/status": {"patch"},
        "/pods": reading | {"create", "delete"},
        "/services": reading | {"create", "delete"},
        "/events": {"create"},
    }


def test_namespaces_bound_the_rights_to_themselves() -> None:
    objects = render("namespaces={red,blue}")
    assert not [entry for entry in objects if entry["kind"] == "ClusterRoleBinding"]
    bindings = [entry for entry in objects if entry["kind"] == "RoleBinding"]
    assert [entry["metadata"]["namespace"] for entry in bindings] == ["red", "blue"]
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--namespace=red", "--namespace=blue"]


def test_the_operators_own_pod_meets_the_restricted_standard() -> None:
    pod = only(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize(
    ("setting", "present"),
    [
        pytest.param("crd.install=true", True, id="the definition comes with the chart"),
        pytest.param("crd.install=false", False, id="and can be left to others"),
    ],
)
def test_who_installs_the_definition_is_a_choice(setting: str, present: bool) -> None:
    kinds = [entry["kind"] for entry in render(setting)]
    assert ("CustomResourceDefinition" in kinds) == present


def test_an_uninstalled_release_leaves_the_definition_and_so_every_job() -> None:
    kept = only(render(), "CustomResourceDefinition")["metadata"]["annotations"]
    assert kept["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        pytest.param("replicas=2", "replicas", id="a value that is not there"),
        pytest.param("log.format=xml", "format", id="a format that it does not write"),
        pytest.param("namespaces=red", "namespaces", id="a namespace that is no list"),
        pytest.param("image.pullPolicy=Sometimes", "pullPolicy", id="a policy of no kubelet"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    with pytest.raises(TestbedFailed, match=named):
        render(setting)
