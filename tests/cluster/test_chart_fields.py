"""What the chart makes of its values: handed on as they are, or left out."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.charts import KUBERNETES, MONITORING, RELEASE, helm, only, pod_of, render
from tests.cluster.jobs import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("programs")]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        pytest.param({}, "acceleratedjob-operator:0.1.0", id="of the chart's version"),
        pytest.param({"repository": "r/x", "tag": "v1"}, "r/x:v1", id="a mirror's"),
        pytest.param(
            {"digest": f"sha256:{'a' * 64}"},
            f"acceleratedjob-operator:0.1.0@sha256:{'a' * 64}",
            id="pinned",
        ),
    ],
)
def test_the_image_is_as_it_is_named(image: dict[str, str], reference: str) -> None:
    (container,) = pod_of(render(image=image))["spec"]["containers"]
    assert container["image"] == reference


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param("tolerations", [{"key": "gpu", "operator": "Exists"}], id="tolerations"),
        pytest.param("affinity", {"nodeAffinity": {}}, id="affinity"),
        pytest.param("priorityClassName", "system-cluster-critical", id="priority"),
        pytest.param("imagePullSecrets", [{"name": "registry"}], id="pull secrets"),
    ],
)
def test_a_field_of_the_pod_is_handed_on(value: str, field: Any) -> None:
    assert pod_of(render(**{value: field}))["spec"][value] == field


def test_it_runs_on_nodes_of_linux_whatever_else_is_asked_of_them() -> None:
    linux = {"kubernetes.io/os": "linux"}
    assert pod_of(render())["spec"]["nodeSelector"] == linux
    fast = {"disk": "fast"}
    assert pod_of(render(nodeSelector=fast))["spec"]["nodeSelector"] == linux | fast


def leaves(value: Any) -> Iterator[Any]:
    """All that a manifest says, without its keys."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from (leaf for each in inner for leaf in leaves(each))
    if not isinstance(value, dict | list):
        yield value


def test_a_name_that_looks_like_a_number_stays_a_name() -> None:
    """Namespaces may be called so, and YAML would take them for what they look like."""
    names = [str(number) for number in range(70001, 70007)]
    values = {
        "fullnameOverride": names[0],
        "namespaces": [names[1]],
        "priorityClassName": names[2],
        "serviceAccount": {"name": names[3]},
        "networkPolicy": {"enabled": True},
        "metrics": {each: {"enabled": True} for each in ("serviceMonitor", "dashboard")},
        "policy": {"onlyWhoMayCreatePods": True},
    }
    place = ("--namespace", names[4], *KUBERNETES, *MONITORING)
    text = helm("template", names[5], CHART, *place, values=values)
    said = list(leaves(list(yaml.safe_load_all(text))))
    assert set(names) <= set(filter(lambda leaf: isinstance(leaf, str), said))
    assert not {int(name) for name in names} & set(said)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_chart_that_depends_on_it_can_leave_it_out(tmp_path: Path, enabled: bool) -> None:
    wanted = {"name": CHART.name, "version": "0.1.0", "condition": f"{CHART.name}.enabled"}
    about = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [wanted]}
    (tmp_path / "Chart.yaml").write_text(json.dumps(about))
    shutil.copytree(CHART, tmp_path / "charts" / CHART.name)
    values = {CHART.name: {"enabled": enabled, "replicas": 3}}
    text = helm("template", RELEASE, tmp_path, *KUBERNETES, values=values)
    assert ("replicas: 3" in text) == enabled


def test_environment_and_annotations_are_handed_on() -> None:
    env = [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
    objects = render(extraEnv=env, podAnnotations={"a": "b"}, annotations={"c": "d"})
    (container,) = pod_of(objects)["spec"]["containers"]
    assert container["env"] == env
    assert pod_of(objects)["metadata"]["annotations"]["a"] == "b"
    assert only(objects, "Deployment")["metadata"]["annotations"] == {"c": "d"}
