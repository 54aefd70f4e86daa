from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob import metrics
from acceleratedjob.api.names import Reason
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.controller.reporting import count_restarts
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import unhurried_now
from tests.operator.lives import background, operate, run, until
from tests.operator.node import Node


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def failed(attempt: int, reason: str) -> Failure:
    pod = f"digits-{attempt}-0"
    return Failure(attempt=attempt, replica=0, pod=pod, reason=reason, time="2026-01-02T03:04:05Z")


@pytest.mark.parametrize(
    ("new", "counted"),
    [
        pytest.param({"attempt": 1, "failures": ("OOMKilled",)}, "OOMKilled", id="a known reason"),
        pytest.param({"attempt": 1, "failures": ("my own",)}, "Other", id="anybody's own reason"),
        pytest.param({"attempt": 0, "failures": ("Error",)}, None, id="the last failure: no more"),
        pytest.param({"attempt": 1}, None, id="suspended"),
    ],
)
def test_a_restart_is_counted_by_its_reason(new: dict[str, Any], counted: str | None) -> None:
    before = {reason: value("accelerated_job_restarts_total", reason=reason) for reason in KNOWN}
    failures = tuple(failed(0, reason) for reason in new.get("failures", ()))
    count_restarts(Status(), Status(attempt=new["attempt"], failures=failures))
    after = {reason: value("accelerated_job_restarts_total", reason=reason) for reason in KNOWN}
    assert [reason for reason in KNOWN if after[reason] != before[reason]] == [counted] * bool(
        counted
    )


@pytest.mark.parametrize(
    ("new", "counted"),
    [
        pytest.param(Status(restarts_in_place=5), 2, id="two lives have begun"),
        pytest.param(Status(restarts_in_place=3), 0, id="none has"),
        pytest.param(Status(), 0, id="another client has changed the status"),
    ],
)
def test_lives_that_have_begun_are_counted(new: Status, counted: int) -> None:
    before = value("accelerated_job_restarts_in_place_total")
    count_restarts(Status(restarts_in_place=3), new)
    assert value("accelerated_job_restarts_in_place_total") - before == counted


def test_what_has_ended_a_life_is_no_restart_of_the_job() -> None:
    before = value("accelerated_job_restarts_total", reason="Error")
    count_restarts(Status(), Status(attempt=1, failures=(replace(failed(0, "Error"), life=0),)))
    assert value("accelerated_job_restarts_total", reason="Error") == before


KNOWN = ("OOMKilled", "Error", "Other", "my own")


def test_every_reason_of_ours_is_a_label() -> None:
    assert [metrics.restart_reason(reason) for reason in Reason] == list(Reason)


def test_passes_and_their_delay_are_counted() -> None:
    async def scenario() -> None:
        store = LocalCluster(unhurried_now)
        await store.create(job())
        async with background(Node(store, lambda _attempt, _index: 0).run(), operate(store, store)):
            await until(store, lambda status: status.finished)

    passes, delays = "accelerated_job_pass_duration_seconds", "accelerated_job_queue_delay_seconds"
    before = value(f"{passes}_count")
    run(scenario())
    done = value(f"{passes}_count") - before
    assert done >= 2
    assert value(f"{delays}_count") >= done


def test_names_follow_prometheus_conventions_and_labels_are_few() -> None:
    units = ("_seconds", "_total", "_depth", "_jobs", "_leader")
    for name, (kind, labels) in metrics.names().items():
        assert name.startswith("accelerated_job_")
        assert name.endswith(units)
        assert (kind == "counter") == name.endswith("_total")
        assert not {"job", "name", "namespace", "pod", "uid"} & set(labels)
