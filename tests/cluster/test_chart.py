"""The chart, as helm renders it: what it grants, and what it refuses to be told."""

from typing import Any

import pytest
import yaml

from acceleratedjob.api import OPERATOR_LABELS
from acceleratedjob.cli import parser
from acceleratedjob.kube.options import Options
from acceleratedjob.lease import Terms
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


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    """Resource, and the name if bound to one -> verbs, of a role."""
    return {
        "/".join((group, resource, *rule.get("resourceNames", ()))): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_operator_may_do_no_more_than_it_does() -> None:
    reading = {"get", "list", "watch"}
    objects = render()
    assert {entry["kind"] for entry in objects if "rules" in entry} == {"ClusterRole", "Role"}
    assert rights(only(objects, "ClusterRole")) == {
        "accelerated.dev/acceleratedjobs": reading | {"delete"},
        "accelerated.dev/acceleratedjobs/status": {"patch"},
        "/pods": reading | {"create", "delete"},
        "/services": reading | {"create", "delete"},
        "networking.k8s.io/networkpolicies": reading | {"create", "delete"},
        "scheduling.volcano.sh/podgroups": {"get", "create", "delete"},
        "scheduling.x-k8s.io/podgroups": {"get", "create", "delete"},
        "/events": {"create"},
    }
    role = only(objects, "Role")
    assert role["metadata"]["namespace"] == "system"
    assert rights(role) == {
        "coordination.k8s.io/leases": {"create"},
        "coordination.k8s.io/leases/aj-acceleratedjob": {"get", "update"},
    }


def test_the_operators_command_line_is_one_that_it_understands() -> None:
    (container,) = only(render("namespaces={red}"), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    told = Options.of(parser().parse_args(container["args"]))
    assert (told.leader_elect, told.terms, told.watch_silence) == (True, Terms(), 90)
    assert (told.lease_namespace, told.lease_name) == ("system", "aj-acceleratedjob")
    assert (told.namespaces, told.log_format) == (("red",), "json")
    (port,) = container["ports"]
    assert port["containerPort"] == told.http_port


def test_two_run_and_a_new_version_takes_over_without_a_gap() -> None:
    spec = only(render(), "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = spec["template"]["spec"]["containers"]
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


def test_the_operators_pods_wear_the_label_that_isolated_jobs_let_in() -> None:
    labels = only(render(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= OPERATOR_LABELS.items()


def test_namespaces_bound_the_rights_to_themselves() -> None:
    objects = render("namespaces={red,blue}")
    assert not [entry for entry in objects if entry["kind"] == "ClusterRoleBinding"]
    bindings = [entry for entry in objects if entry["kind"] == "RoleBinding"]
    places = {entry["metadata"]["namespace"]: entry["roleRef"]["kind"] for entry in bindings}
    assert places == {"red": "ClusterRole", "blue": "ClusterRole", "system": "Role"}
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
        pytest.param("replica=2", "replica", id="a value that is not there"),
        pytest.param("replicas=0", "replicas", id="no operator at all"),
        pytest.param(
            "leaderElection.leaseDuration=soon", "leaseDuration", id="a time that is no duration"
        ),
        pytest.param("log.format=xml", "format", id="a format that it does not write"),
        pytest.param("namespaces=red", "namespaces", id="a namespace that is no list"),
        pytest.param("image.pullPolicy=Sometimes", "pullPolicy", id="a policy of no kubelet"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    with pytest.raises(TestbedFailed, match=named):
        render(setting)
