"""docs/operations.md names every flag and metric that there is, and none that is not."""

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.web import Request
from prometheus_client.parser import text_string_to_metric_families

from acceleratedjob import metrics
from acceleratedjob.api.names import API_VERSION, KIND, Phase
from acceleratedjob.cli.operator import operator, options_of
from acceleratedjob.controller.controller import Controller
from acceleratedjob.kube.health import Pulse
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manager.server import Pages

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/operations.md").read_text()
VALUES: Any = yaml.safe_load((PROJECT / "charts/acceleratedjob/values.yaml").read_text())
FLAGS = {one.opts[0] for one in operator.params}
ALERTS = PROJECT / "charts/acceleratedjob/files/alerts.yaml"


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this head."""
    (found,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def asked(controller: Controller, *, leading: bool) -> dict[str, tuple[str, dict[str, float]]]:
    """Type and samples of what /metrics answers, by name."""
    pages = Pages(Pulse(()), (controller,), lambda: leading)

    async def answer(request: Request | None = None) -> web.Response:
        return await pages.metrics(request)  # type: ignore[arg-type]  # it looks at no request

    text = asyncio.run(answer()).body
    assert isinstance(text, bytes)
    return {
        family.name: (
            family.type,
            {",".join(sample.labels.values()): sample.value for sample in family.samples},
        )
        for family in text_string_to_metric_families(text.decode())
    }


def controller_of(*phases: str | None) -> Controller:
    made = Controller(LocalCluster())
    for number, phase in enumerate(phases):
        identity = {"uid": f"{number}", "name": f"job{number}", "namespace": "red"}
        status = {"status": {"phase": phase}} if phase else {}
        made.see({"apiVersion": API_VERSION, "kind": KIND, "metadata": identity, **status})
    return made


def test_the_table_of_metrics_is_what_the_page_answers() -> None:
    written = {
        name.strip("`"): (kind, tuple(labels.split(", ")) if labels else ())
        for name, kind, labels, _ in table("metric")
    }
    assert written == metrics.names()
    answered = asked(controller_of(), leading=True)
    own = {name: kind for name, (kind, _) in answered.items() if name.startswith("accelerated_job")}
    assert own == {name.removesuffix("_total"): kind for name, (kind, _) in written.items()}


def test_an_alert_is_about_a_metric_that_there_is() -> None:
    named = set(re.findall(r"accelerated_job_\w+", PAGE))
    assert {name.removesuffix("_bucket") for name in named} == set(metrics.names())


def test_the_alerts_of_the_page_are_the_charts() -> None:
    rule = r"expr: (.+)\n(?: +for: (\w+)\n)?"
    assert re.findall(rule, PAGE) == re.findall(rule, ALERTS.read_text()) != []


@pytest.mark.parametrize("leading", [True, False], ids=["the leader", "a standby"])
def test_jobs_are_told_by_the_leader_alone(leading: bool) -> None:
    answered = asked(controller_of("Running", "Running", "Failed", None), leading=leading)
    expected = dict.fromkeys(["New", *Phase], 0.0)
    if leading:
        expected |= {"Running": 2, "Failed": 1, "New": 1}
    assert answered["accelerated_job_jobs"][1] == expected
    assert answered["accelerated_job_leader"][1] == {"": float(leading)}


def test_the_table_of_flags_is_what_the_command_line_takes() -> None:
    rows = {flag.strip("`"): default for flag, default, _ in table("flag")}
    assert set(rows) == FLAGS
    told = options_of([])
    shown = {
        flag: default for flag, default in rows.items() if re.fullmatch(r"\d+s|text|info", default)
    }
    assert shown == {
        "--watch-silence": f"{told.watch_silence:g}s",
        "--log-format": told.log_format,
        "--log-level": told.log_level,
        "--lease-duration": f"{told.terms.duration:g}s",
        "--renew-deadline": f"{told.terms.deadline:g}s",
        "--retry-period": f"{told.terms.retry:g}s",
    }


def section(title: str) -> str:
    """The page's text under a title."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_what_is_tuned_are_flags_and_values_that_there_are() -> None:
    named = re.findall(r"`(-*[a-z][\w.-]+)`", section("Tuning"))
    assert {name for name in named if name.startswith("--")} <= FLAGS
    for name in named:
        if not name.startswith("--"):
            value = VALUES
            for part in name.split("."):
                value = value[part]


def test_less_than_half_of_the_charts_memory_was_ever_measured() -> None:
    """As the page says; measured is what the other page shows of this operator."""
    measured = (PROJECT / "docs/performance-operator.md").read_text()
    rows = dict(re.findall(r"^\| (\S+ x \d+) \| AcceleratedJob \|(.+)$", measured, re.MULTILINE))
    cells = [cell.strip() for row in rows.values() for cell in row.split("|")]
    megabytes = [float(cell.removesuffix(" MB")) for cell in cells if cell.endswith(" MB")]
    limit = VALUES["resources"]["limits"]["memory"]
    assert "1000 x 8" in rows
    assert f"the chart's limit of {limit}" in section("Scale")
    assert 0 < max(megabytes) < int(limit.removesuffix("Mi")) / 2


def test_the_workers_that_the_page_tells_are_the_controllers() -> None:
    workers = inspect.signature(Controller).parameters["workers"].default
    assert f", {workers} at a time" in section("Scale")
