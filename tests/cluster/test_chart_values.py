"""Wrong values are refused by name, before anything reaches a cluster."""

from typing import Any

import pytest

from tests.cluster.charts import render
from tests.cluster.testbed.processes import TestbedFailed

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a value that is not there": ({"replica": 2}, "replica"),
    "a value of a former chart": ({"crd": {"install": True}}, "crd"),
    "one that is not there, further in": ({"image": {"name": "x"}}, "name"),
    "no operator at all": ({"replicas": 0}, "replicas"),
    "half an operator": ({"replicas": 1.5}, "replicas"),
    "a time that is no duration": ({"leaderElection": {"leaseDuration": "soon"}}, "leaseDuration"),
    "no time at all": ({"watchSilence": "0s"}, "watchSilence"),
    "a format that it does not write": ({"log": {"format": "xml"}}, "format"),
    "a namespace that is no list": ({"namespaces": "red"}, "namespaces"),
    "a namespace that cannot be": ({"namespaces": ["Red"]}, "namespaces"),
    "a namespace twice": ({"namespaces": ["red", "red"]}, "namespaces"),
    "a policy of no kubelet": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "a digest cut short": ({"image": {"digest": "sha256:abc"}}, "digest"),
    "a digest in the repository": ({"image": {"repository": "x@sha256:abc"}}, "repository"),
    "a secret that is not named": ({"imagePullSecrets": [{"secret": "x"}]}, "imagePullSecrets"),
    "a secret that is only a name": ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
    "an argument that is no flag": ({"extraArgs": ["operator"]}, "extraArgs"),
    "a variable that is a number": ({"extraEnv": [{"name": "A", "value": 1}]}, "extraEnv"),
    "a label that is no label": ({"podLabels": {"team": "a b"}}, "podLabels"),
    "an annotation that is a number": ({"podAnnotations": {"a": 1}}, "podAnnotations"),
    "a budget that stops every drain": (
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        "maxUnavailable",
    ),
    "a port beyond all ports": ({"networkPolicy": {"apiServerPorts": [70000]}}, "apiServerPorts"),
    "an unknown field of a probe": ({"livenessProbe": {"tcpSocket": {}}}, "livenessProbe"),
    "resources of no kind": ({"resources": {"limit": {"memory": "1Gi"}}}, "limit"),
    "a constraint without a topology": (
        {"topologySpreadConstraints": [{"maxSkew": 1}]},
        "topologySpreadConstraints",
    ),
    "an interval that is a number": (
        {"metrics": {"serviceMonitor": {"interval": 30}}},
        "interval",
    ),
    "half a minute to Prometheus": (
        {"metrics": {"podMonitor": {"interval": "0.5m"}}},
        "interval",
    ),
    "no account to use": ({"serviceAccount": {"create": False}}, "serviceAccount.name must be set"),
}


@pytest.mark.parametrize(
    ("values", "named"), [pytest.param(*case, id=why) for why, case in WRONG.items()]
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(TestbedFailed, match=named):
        render(**values)
