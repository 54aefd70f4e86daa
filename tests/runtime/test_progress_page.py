"""The page is whole, harmless and needs nothing from elsewhere; the metrics are Prometheus'."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from runtime.control.beat import Phase
from runtime.control.progress import page
from runtime.control.progress.curve import MAX_DRAWN
from runtime.control.progress.metrics import PREFIX, to_prometheus
from runtime.control.progress.page import charts
from runtime.control.progress.respond import pages, respond
from runtime.control.progress.snapshot import (
    RankProgress,
    Snapshot,
    Verdict,
    VerdictKind,
)
from tests.contract.snapshots import AT, FULL, snapshots

EVIL = "</title><script>alert(1)</script><img src=x onerror='alert(1)'>\"&"
VOID = {"meta", "link"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, each closed as it was opened, and its text."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_everything_that_is_known_can_be_read_without_a_script() -> None:
    text = Elements(page.to_html(FULL)).text
    for told in (
        *("digits", "50%", "540 / 1,080", "3 / 12", "ETA 0:12", "0.2134", "1,240", "12.3 ms"),
        *("34,560", "50.0%", "rank 5 is slow", "n5", "storage", "accuracy", "0.75", "nan"),
        *("productive 1:00", "loading 0:30", "other 0:30"),
    ):
        assert told in text


def test_a_rank_that_is_slow_or_blamed_stands_out_and_nothing_else_does() -> None:
    cells = [
        one["class"]
        for tag, one in Elements(page.to_html(FULL)).found
        if tag == "rect" and one["width"] == "18"
    ]
    assert cells == ["heat-0"] * 5 + ["heat-4 blamed"] + ["heat-0"] * 2


@given(snapshots())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_ranks_say_it_is_text_in_a_well_formed_page(snapshot: Snapshot) -> None:
    elements = Elements(page.to_html(snapshot)).found
    assert [tag for tag, _ in elements].count("script") == 1
    attributes = {name for _, attrs in elements for name in attrs}
    assert not any(name.startswith("on") or name in ("style", "src") for name in attributes)
    links = [one["href"] for tag, one in elements if "href" in one]
    assert links == ["data:,"]


def test_texts_of_others_are_escaped() -> None:
    verdict = Verdict(kind=VerdictKind.HANG, text=EVIL, node=EVIL)
    evil = replace(FULL, name=EVIL, verdicts=(verdict,), metrics={EVIL: 1.0})
    elements = Elements(page.to_html(evil))
    assert [tag for tag, _ in elements.found if tag in ("script", "img", "title")].count("img") == 0
    assert elements.text.count(EVIL) == 5  # title, heading, sentence, node and metric


def test_the_policy_allows_the_pages_own_script_and_style_only() -> None:
    found = respond("GET", "/", pages(lambda: FULL))
    policy = dict(found.fields)["Content-Security-Policy"]
    directives = dict(one.split(" ", 1) for one in policy.split("; "))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), found.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert not re.search(rb"https?://", found.body)


def test_a_page_of_many_ranks_is_bounded() -> None:
    ranks = tuple(replace(FULL.ranks[0], rank=rank) for rank in range(10_000))
    slow = replace(ranks[9_000], own_seconds=7.0)
    shown = page.to_html(replace(FULL, ranks=(*ranks[:9_000], slow, *ranks[9_001:])))
    assert len(shown) < 300_000
    assert b"rank 9000: 7 s" in shown
    assert b"7,952 ranks" in shown


@given(
    st.lists(st.floats(-MAX_DRAWN, MAX_DRAWN), min_size=2, max_size=5),
    st.integers(0, 2**53),
)
def test_any_losses_are_drawn_within_the_picture(values: list[float], begin: int) -> None:
    points = [(begin + index, value) for index, value in enumerate(values)]
    drawn = charts.curve(points, {begin})
    (line,) = re.findall(r'<polyline points="(.*?)"', drawn)
    for point in line.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 720
        assert 0 <= y <= 240


# -- metrics --


def families(snapshot: Snapshot) -> dict[str, tuple[str, dict[str, float]]]:
    """Type and samples by name, as Prometheus reads them."""
    return {
        one.name: (
            one.type,
            {",".join(sample.labels.values()): sample.value for sample in one.samples},
        )
        for one in text_string_to_metric_families(to_prometheus(snapshot).decode())
    }


@pytest.mark.parametrize(
    ("name", "kind", "samples"),
    [
        ("step", "gauge", {"": 540}),
        ("steps", "gauge", {"": 1080}),
        ("loss", "gauge", {"": 0.2134}),
        ("goodput_ratio", "gauge", {"": 0.5}),
        ("last_step_timestamp_seconds", "gauge", {"": AT.timestamp()}),
        ("checkpoint_step", "gauge", {"": 500}),
        ("slowest_rank_step_seconds", "gauge", {"": 2.0}),
        ("median_rank_step_seconds", "gauge", {"": 1.0}),
        ("lost_seconds", "counter", {"loading": 30.0, "hang": 0.0}),
        ("verdicts", "gauge", {"hang": 0, "straggler": 1, "divergence": 0}),
        ("ranks", "gauge", {**dict.fromkeys((*Phase, "unknown"), 0), "step": 8}),
    ],
)
def test_a_metric(name: str, kind: str, samples: dict[str, float]) -> None:
    assert families(FULL)[PREFIX + name] == (kind, samples)


@given(snapshots())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_ranks_say_there_are_few_series_with_few_labels(snapshot: Snapshot) -> None:
    found = families(snapshot)
    assert sum(len(samples) for _, samples in found.values()) <= 45
    assert all(name.startswith(PREFIX) for name in found)
    known = {"", *Phase, "unknown", *VerdictKind}
    known |= {"starting", "loading", "redone", "checkpoint", "hang"}
    assert {label for _, samples in found.values() for label in samples} <= known


def test_a_rank_that_was_not_heard_is_counted() -> None:
    found = families(Snapshot(ranks=(FULL.ranks[0], RankProgress(rank=1))))
    _, samples = found[f"{PREFIX}ranks"]
    assert (samples["step"], samples["unknown"], sum(samples.values())) == (1, 1, 2)


def test_a_loss_that_is_no_number_is_one_for_prometheus() -> None:
    told = to_prometheus(Snapshot(loss=float("nan"), eta_seconds=1.0)).decode()
    assert f"{PREFIX}loss NaN\n" in told
    assert f"{PREFIX}loss +Inf\n" in to_prometheus(Snapshot(loss=float("inf"))).decode()
