"""The chart, as helm renders it: what it grants, runs and adds."""

from typing import Any

import pytest

from acceleratedjob.api.names import OPERATOR_LABELS
from acceleratedjob.cli.operator import options_of
from acceleratedjob.manager.flags import Options
from acceleratedjob.manager.lease import Terms
from tests.cluster.charts import (
    FULL_NAME,
    Rights,
    found,
    helm,
    is_hook,
    only,
    pod_of,
    render,
    rights,
)
from tests.cluster.jobs import CHART
from tests.cluster.testbed.processes import TestbedFailed

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]

ON = {"onlyWhoMayCreatePods": True}


def told(objects: list[dict[str, Any]]) -> Options:
    """What the operator reads of its command line."""
    (container,) = pod_of(objects)["spec"]["containers"]
    command, *flags = container["args"]
    assert command == "operator"
    return options_of(flags)


def test_helm_has_nothing_to_say_of_it() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


def test_the_values_are_few_and_each_is_told_of() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    assert len(lines) <= 125


def test_the_operators_command_line_is_one_that_it_understands() -> None:
    objects = render(namespaces=["red"], extraArgs=["--api-qps=7"])
    options = told(objects)
    assert (options.leader_elect, options.terms, options.watch_silence) == (True, Terms(), 90)
    assert (options.lease_namespace, options.lease_name) == ("system", FULL_NAME)
    assert (options.namespaces, options.log_format) == (("red",), "json")
    assert options.limit.per_second == 7
    (container,) = pod_of(objects)["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == options.http_port


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


def test_whatever_chooses_the_operators_pods_chooses_them_all() -> None:
    objects = render(
        podLabels={"team": "ml"}, commonLabels={"team": "x"}, networkPolicy={"enabled": True}
    )
    labels = pod_of(objects)["metadata"]["labels"]
    assert labels.items() >= (OPERATOR_LABELS | {"app.kubernetes.io/instance": "aj"}).items()
    (spread,) = pod_of(objects)["spec"]["topologySpreadConstraints"]
    selectors = [
        only(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        only(objects, "Service")["spec"]["selector"],
        spread["labelSelector"]["matchLabels"],
    ]
    assert all(selector == selectors[0] for selector in selectors)
    assert selectors[0].items() <= labels.items()
    (test,) = (entry for entry in objects if entry["kind"] == "Pod")
    assert not selectors[0].items() <= test["metadata"]["labels"].items()


def reach(objects: list[dict[str, Any]]) -> dict[tuple[str, str], Rights]:
    """What the operator's account may do, by kind of binding and namespace."""
    allowed = {}
    for kind in ("ClusterRole", "Role"):
        for binding in found(objects, f"{kind}Binding"):
            place = binding["metadata"].get("namespace", "")
            assert binding["roleRef"]["kind"] == kind
            (role,) = (
                each
                for each in found(objects, kind, binding["roleRef"]["name"])
                if each["metadata"].get("namespace", "") == place
            )
            allowed[kind, place] = rights(role)
    return allowed


def test_namespaces_bound_the_rights_to_themselves() -> None:
    everywhere = reach(render())
    objects = render(namespaces=["red", "blue"], crds={"enabled": False}, rbac={"userRoles": False})
    bounded = reach(objects)
    everything = everywhere["ClusterRole", ""]
    assert bounded == {
        ("Role", "red"): everything,
        ("Role", "blue"): everything,
        ("Role", "system"): everywhere["Role", "system"],
    }
    assert not [entry for entry in objects if entry["kind"].startswith("Cluster")]
    assert told(objects).namespaces == ("blue", "red")


def test_no_right_is_for_all_verbs_or_all_resources() -> None:
    for role in (*found(render(), "ClusterRole"), *found(render(), "Role")):
        assert not [right for right in rights(role) if "*" in right]


def test_the_policy_is_about_the_namespaces_that_are_served() -> None:
    binding = only(render(policy=ON), "ValidatingAdmissionPolicyBinding")["spec"]
    assert "matchResources" not in binding
    bounded = only(render(policy=ON, namespaces=["red"]), "ValidatingAdmissionPolicyBinding")
    (served,) = bounded["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert served == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["red"]}


def test_a_cluster_that_would_not_check_the_policy_is_refused() -> None:
    older = ("--kube-version", "1.29.9")
    assert found(render(*older), "Deployment")
    with pytest.raises(TestbedFailed, match=r"1\.30 or later.* got v1\.29\.9"):
        render(*older, policy=ON)


@pytest.mark.parametrize("policy", [{}, ON], ids=["without the policy", "with it"])
def test_the_account_of_helms_test_may_create_the_pods_of_its_job_where_it_must(
    policy: dict[str, bool],
) -> None:
    (role,) = (each for each in render(policy=policy) if is_hook(each) and each["kind"] == "Role")
    assert (("", "pods", "create") in rights(role)) == bool(policy)


@pytest.mark.parametrize(
    ("values", "kind", "present"),
    [
        pytest.param({}, "CustomResourceDefinition", True, id="the definition comes along"),
        pytest.param(
            {"crds": {"enabled": False}},
            "CustomResourceDefinition",
            False,
            id="or is left to others",
        ),
        pytest.param({"rbac": {"create": False}}, "ClusterRoleBinding", False, id="no rights"),
        pytest.param({"rbac": {"create": False}}, "Role", False, id="not on leases either"),
        pytest.param({}, "PodDisruptionBudget", True, id="a drain leaves one operator"),
        pytest.param({}, "NetworkPolicy", False, id="no wall unless asked"),
        pytest.param({}, "ValidatingAdmissionPolicy", False, id="no policy unless asked"),
        pytest.param({}, "ServiceMonitor", False, id="no monitor unless asked"),
        pytest.param({}, "ConfigMap", False, id="no dashboard unless asked"),
        pytest.param(
            {"metrics": {"serviceMonitor": {"enabled": True}}},
            "ServiceMonitor",
            False,
            id="no monitor where nobody serves it",
        ),
        pytest.param(
            {"podDisruptionBudget": {"enabled": False}},
            "PodDisruptionBudget",
            False,
            id="no budget",
        ),
        pytest.param(
            {"serviceAccount": {"create": False, "name": "x"}},
            "ServiceAccount",
            False,
            id="an account that is there",
        ),
    ],
)
def test_what_is_installed_is_a_choice(values: dict[str, Any], kind: str, present: bool) -> None:
    assert bool(found(render(**values), kind)) == present


def test_an_uninstalled_release_leaves_the_definition_and_so_every_job() -> None:
    kept = only(render(), "CustomResourceDefinition")["metadata"]["annotations"]
    assert kept["helm.sh/resource-policy"] == "keep"
    let_go = only(render(crds={"keep": False}), "CustomResourceDefinition")["metadata"]
    assert "annotations" not in let_go
