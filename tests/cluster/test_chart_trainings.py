"""What the chart tells Prometheus and Grafana of the trainings fits what the pods have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from acceleratedjob import metrics
from acceleratedjob.manifests.pod import PROGRESS
from runtime.control.progress.metrics import PREFIX, to_prometheus
from runtime.control.progress.respond import pages
from runtime.control.progress.snapshot import Snapshot
from tests.attempts import pod_of
from tests.cluster.charts import MONITORING, found, only, render
from tests.cluster.jobs import CHART
from tests.operator.builders import spec

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]

PAGE = (CHART.parents[1] / "docs/progress.md").read_text()
# name -> the name of its label; tests/contract/test_progress.py checks the table.
TABLE = dict(
    re.findall(rf"^\| `({PREFIX}\w+)` \| \w+ \| (\w*) ?\|", PAGE, re.MULTILINE),
)
BOARDS = {
    name: json.loads((CHART / f"files/{name}.json").read_text())
    for name in ("trainings", "dashboard")
}
QUERIES = {
    panel["title"] + target["refId"]: target["expr"]
    for panel in BOARDS["trainings"]["panels"]
    for target in panel["targets"]
}
ALL = {name: {"enabled": True} for name in ("podMonitor", "trainingsDashboard")}


def differences(given: Any, read: Any, path: str = "") -> Iterator[str]:
    """The paths at which a board has what Grafana's schema does not."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from differences(value, read.get(key), f"{path}.{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif given != read:
        yield path


@pytest.mark.parametrize("name", list(BOARDS))
def test_a_board_has_only_what_grafanas_schema_has(name: str) -> None:
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(BOARDS[name])))
    assert list(differences(BOARDS[name], read)) == []


def test_a_field_that_the_schema_does_not_have_is_found() -> None:
    board = {"title": "x", "panels": [{"type": "stat", "titel": "y"}]}
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert list(differences(board, read)) == [".panels[0].titel"]


def selectors(query: str) -> list[promql.VectorSelector]:
    """The selectors of a query, which a real parser has read."""
    seen: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.MatrixSelector):
            seen.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            seen.append(node)
        return True

    promql.walk(promql.parse(query.replace("$__rate_interval", "5m")), visit)
    return seen


@pytest.mark.parametrize("query", [pytest.param(q, id=n) for n, q in QUERIES.items()])
def test_a_query_is_of_the_chosen_jobs_and_names_a_metric_that_there_is(query: str) -> None:
    found = selectors(query)
    assert found
    for one in found:
        labels = {matcher.name: matcher.value for matcher in one.matchers.matchers}
        if one.name in TABLE:
            assert labels == {"namespace": "$namespace", "job": "$job"}
        else:
            assert one.name in metrics.names()
    kept = set(re.findall(r"\bby \(([^)]*)\)", query)[0].replace(" ", "").split(","))
    known = {TABLE.get(str(one.name), "") for one in found} | {
        name for one in found for name in metrics.names().get(str(one.name), ("", ()))[1]
    }
    assert kept <= {"namespace", "job"} | known


def test_the_board_shows_every_metric_of_a_training() -> None:
    shown = {one.name for query in QUERIES.values() for one in selectors(query)}
    counts = {f"{PREFIX}{name}" for name in ("epoch", "epochs", "samples", "checkpoint_step")}
    assert TABLE.keys() - shown == counts


def test_the_monitor_selects_the_pod_that_serves_the_metrics() -> None:
    monitor = only(render(*MONITORING, metrics=ALL), "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["path"] in pages(Snapshot)
    assert endpoint["port"] == PROGRESS
    made = [pod_of(spec(), attempt=0, index=index) for index in range(2)]
    wanted = monitor["selector"]["matchLabels"].items()
    selected = [one for one in made if wanted <= one["metadata"]["labels"].items()]
    assert selected == made[:1]
    assert monitor["jobLabel"] in made[0]["metadata"]["labels"]
    assert {one["key"] for one in monitor["selector"]["matchExpressions"]} == {monitor["jobLabel"]}


@pytest.mark.parametrize(
    ("namespaces", "selector"),
    [([], {"any": True}), (["red", "blue"], {"matchNames": ["red", "blue"]})],
)
def test_it_looks_where_the_operator_does(namespaces: list[str], selector: Any) -> None:
    objects = render(*MONITORING, metrics=ALL, namespaces=namespaces)
    assert only(objects, "PodMonitor")["spec"]["namespaceSelector"] == selector


def test_a_job_can_be_chosen_before_its_first_step() -> None:
    begun = to_prometheus(Snapshot(name="digits", uid="u")).decode()
    there = {family.name for family in text_string_to_metric_families(begun)}
    for variable in BOARDS["trainings"]["templating"]["list"][1:]:
        named = re.findall(rf"{PREFIX}\w+", variable["query"]["query"])
        assert named
        assert there.issuperset(named)


@pytest.mark.parametrize("name", [*ALL, "dashboard", "serviceMonitor", "prometheusRule"])
def test_labels_may_be_null(name: str) -> None:
    values = {name: {"enabled": True, "labels": None}}
    kinds = ("PodMonitor", "ConfigMap", "ServiceMonitor", "PrometheusRule")
    objects = render(*MONITORING, metrics=values)
    assert sum(len(found(objects, kind)) for kind in kinds) == 1


def test_neither_is_there_unless_asked_for() -> None:
    assert not found(render(*MONITORING), "PodMonitor")
    assert not found(render(*MONITORING), "ConfigMap")
    board = only(render(*MONITORING, metrics=ALL), "ConfigMap")
    assert json.loads(board["data"]["acceleratedjob-trainings.json"]) == BOARDS["trainings"]
    assert not found(render(metrics=ALL), "PodMonitor")  # without the CRDs of Prometheus
