"""What the chart tells Prometheus and Grafana is about metrics that the operator has."""

import json
import re

import pytest
import yaml

from acceleratedjob import metrics
from tests.cluster.charts import MONITORING, only, pod_of, render
from tests.cluster.jobs import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]

ALL = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")}
ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
RULES = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
SHOWN = {
    panel["title"] + target["refId"]: target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
LABELS = {"le", "pod", "namespace"} | {name for _, of in metrics.names().values() for name in of}
WORDS = {"sum", "rate", "increase", "absent", "histogram_quantile", "by", "on", "and", "or"}


@pytest.mark.parametrize("query", [pytest.param(q, id=n) for n, q in (SHOWN | RULES).items()])
def test_a_query_names_only_what_there_is(query: str) -> None:
    named = set(re.findall(r"\b[a-z_]+\b", re.sub(r"\[[^]]*\]", "", query)))
    series = {name.removesuffix("_bucket") for name in named - LABELS - WORDS}
    assert series
    assert series <= metrics.names().keys() | PROCESS


def test_every_metric_but_none_twice_is_shown_or_alerted_of() -> None:
    queries = " ".join((SHOWN | RULES).values())
    assert [name for name in metrics.names() if name not in queries] == []


def test_the_documents_alerts_are_the_charts() -> None:
    page = (CHART.parents[1] / "docs/operations.md").read_text()
    assert sorted(re.findall(r"expr: (.*)", page)) == sorted(RULES.values())


def test_prometheus_and_grafana_find_what_is_made_for_them() -> None:
    objects = render(*MONITORING, metrics=ALL)
    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    (endpoint,), (port,) = monitor["spec"]["endpoints"], service["spec"]["ports"]
    (container,) = pod_of(objects)["spec"]["containers"]
    assert endpoint["port"] == port["name"]
    assert port["targetPort"] in [each["name"] for each in container["ports"]]
    assert only(objects, "PrometheusRule")["spec"] == ALERTS
    board = only(objects, "ConfigMap")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["acceleratedjob.json"]) == DASHBOARD
