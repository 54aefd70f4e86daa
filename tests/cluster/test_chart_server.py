"""What the chart makes, as a real API server takes it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.charts import MONITORING, render
from tests.cluster.definitions import definition, known
from tests.cluster.testbed.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("monitoring")]

PIN = f"sha256:{'0' * 64}"
EVERYTHING: dict[str, Any] = {
    "replicas": 3,
    "namespaces": ["default"],
    "commonLabels": {"team": "ml"},
    "extraArgs": ["--api-qps=200"],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "image": {"digest": PIN},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "policy": {"onlyWhoMayCreatePods": True},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
    "metrics": {
        name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")
    },
}
SETS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "everything": EVERYTHING,
    "one operator": {"replicas": 1, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    "two namespaces": {"namespaces": ["default", "kube-public"], "rbac": {"userRoles": False}},
    "a name of its own": {
        "fullnameOverride": "x" * 63,
        "policy": {"onlyWhoMayCreatePods": True},
    },
    "behind a wall": {"networkPolicy": {"enabled": True, "apiServerPorts": [8443]}},
    "an account that is there": {"serviceAccount": {"create": False, "name": "default"}},
    "on OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "spread and bound": {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
        "affinity": {"nodeAffinity": {}},
    },
    "no extras": {
        "podDisruptionBudget": {"enabled": False},
        "rbac": {"create": False, "userRoles": False},
        "test": {"enabled": False},
        "topologySpreadConstraints": [],
        "resources": {},
    },
}


@pytest.fixture(scope="module")
def monitoring(testbed: Cluster) -> Iterator[None]:
    """The API server knows the Prometheus operator's kinds."""
    kinds = ("ServiceMonitor", "PrometheusRule")
    with known(testbed, [definition("monitoring.coreos.com/v1", kind) for kind in kinds]):
        yield


@pytest.mark.parametrize("values", [pytest.param(v, id=name) for name, v in SETS.items()])
@pytest.mark.usefixtures("monitoring")
def test_an_api_server_takes_all_of_it(values: dict[str, Any], testbed: Cluster) -> None:
    objects = render("--namespace", "default", *MONITORING, **values)
    for pod in (entry for entry in objects if entry["kind"] == "Pod"):
        del pod["spec"]["serviceAccountName"]  # a dry run does not make the account
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
    answered = testbed.kubectl("apply", *flags, "--filename=-", stdin=text).splitlines()
    assert len(answered) == len(objects)


@pytest.mark.usefixtures("crd")
def test_the_pods_are_let_into_a_namespace_that_is_restricted(
    testbed: Cluster, namespace: str
) -> None:
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    testbed.kubectl("label", "namespace", namespace, enforce)
    objects = render("--namespace", namespace)
    (deployment,) = (entry for entry in objects if entry["kind"] == "Deployment")
    (test,) = (entry for entry in objects if entry["kind"] == "Pod")
    (environment,) = (
        e["value"] for e in test["spec"]["containers"][0]["env"] if e["name"] == "JOB"
    )
    specs = {
        "operator": deployment["spec"]["template"]["spec"],
        "test": test["spec"],
        "trainer": json.loads(environment)["spec"]["template"]["spec"],
    }
    for name, spec in specs.items():
        bare = {k: v for k, v in spec.items() if not k.startswith("serviceAccount")}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": bare}
        made = ("create", "--dry-run=server", "--filename=-", "--output=name")
        told = testbed.kubectl("--namespace", namespace, *made, stdin=json.dumps(pod))
        assert told.strip() == f"pod/{name}"
