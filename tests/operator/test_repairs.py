"""A Service or a NetworkPolicy that somebody has changed is made anew, and it is told."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Ref
from acceleratedjob.controller.cached_object import read
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.manifests.network import network_policy, service
from acceleratedjob.observe.pod import Single
from acceleratedjob.planner.actions import (
    Action,
    Announce,
    CreatePolicy,
    CreateService,
    DeletePolicy,
    DeleteService,
)
from acceleratedjob.planner.planner import plan
from tests.operator.builders import NOW, ago, job, pod, spec
from tests.operator.clockwork import Clock, Fated, Operator
from tests.operator.lives import REF, object_names
from tests.operator.stages import SUSPENDED, seen

JOB = spec(network={"isolate": True})
OURS = {"Service": service(JOB), "NetworkPolicy": network_policy(JOB)}
# As an operator made them that knew of one field, now spelt otherwise, and of a second port.
OTHERS_SELECTOR = {"accelerated.dev/job": "digits"}
OTHERS_RECORD = {names.MADE_AS_ANNOTATION: "selector=3cb4640d89e2b15a"}


def kept(
    kind: str, *, age: int = 60, record: Any = None, times: str = "0", **fields: Any
) -> Single:
    """What is kept of an object with other fields in its spec than ours."""
    metadata: Manifest = {
        "name": "digits",
        "namespace": "default",
        "uid": "u",
        "ownerReferences": OURS[kind]["metadata"]["ownerReferences"],
        "creationTimestamp": format_time(ago(age)),
        "annotations": (OURS[kind]["metadata"]["annotations"] if record is None else record)
        | {names.REPAIRS_ANNOTATION: times},
    }
    known = read(kind, OURS[kind] | {"metadata": metadata, "spec": OURS[kind]["spec"] | fields})
    assert known is not None
    assert known.single is not None
    return known.single


def done(kind: str, single: Single) -> list[tuple[Action, ...]]:
    """What a plan does about it, but for what it tells."""
    made = plan(JOB, seen(pod(0), pod(1), policy_uid="w", singles={kind: single}), NOW)
    told = [a for group in made.steps for a in group if isinstance(a, Announce)]
    acts = [group for group in made.steps if not isinstance(group[0], Announce)]
    assert [one.reason for one in told] == ["Repaired"] * bool(acts)
    return acts


PORT = {"name": "rendezvous", "port": 29500}


@pytest.mark.parametrize(
    ("kind", "single"),
    [
        pytest.param("Service", kept("Service"), id="as it was made"),
        pytest.param(
            "Service",
            kept("Service", ipFamilies=["IPv4"], sessionAffinity="None"),
            id="with what the API server adds",
        ),
        pytest.param(
            "Service",
            kept("Service", record=OTHERS_RECORD, selector=OTHERS_SELECTOR),
            id="another version's, with its own selector",
        ),
        pytest.param(
            "Service",
            kept("Service", record={}, selector={"accelerated.dev/job-name": "digits"}),
            id="made by a version that kept no record",
        ),
        pytest.param(
            "Service",
            kept("Service", ports=[PORT, {"name": "progress", "port": 29501}]),
            id="with a port that another version adds",
        ),
        pytest.param("NetworkPolicy", kept("NetworkPolicy"), id="a wall as it was made"),
        pytest.param(
            "NetworkPolicy",
            kept("NetworkPolicy", times="many"),
            id="a wall whose count of repairs is no number",
        ),
    ],
)
def test_what_does_what_it_was_made_for_stays(kind: str, single: Single) -> None:
    assert done(kind, single) == []


@pytest.mark.parametrize(
    ("kind", "single"),
    [
        pytest.param("Service", kept("Service", selector={"a": "b"}), id="other pods"),
        pytest.param("Service", kept("Service", selector=None), id="no pods"),
        pytest.param(
            "Service",
            kept("Service", publishNotReadyAddresses=False),
            id="only pods that are ready",
        ),
        pytest.param("Service", kept("Service", ports=None), id="no port"),
        pytest.param(
            "Service",
            kept("Service", record=OTHERS_RECORD, selector={"a": "b"}),
            id="other pods than another version's",
        ),
        pytest.param("NetworkPolicy", kept("NetworkPolicy", ingress=[{}]), id="an open wall"),
        pytest.param("NetworkPolicy", kept("NetworkPolicy", ingress=None), id="a shut wall"),
        pytest.param(
            "NetworkPolicy", kept("NetworkPolicy", times="x" * 9, ingress=[]), id="no such count"
        ),
    ],
)
def test_what_was_changed_is_removed_and_at_once_made_anew(kind: str, single: Single) -> None:
    deleted, made = (
        (DeleteService("s"), CreateService(1))
        if kind == "Service"
        else (DeletePolicy("w"), CreatePolicy(1))
    )
    assert done(kind, single) == [(deleted,), (made,)]


@pytest.mark.parametrize(
    ("kind", "network", "port", "acts"),
    [
        pytest.param(
            *("Service", {"port": 30000}, 30000, [DeleteService("s"), CreateService(1)]),
            id="a Service",
        ),
        pytest.param(
            *("NetworkPolicy", {"progressPort": 30000}, 30000),
            [DeletePolicy("w"), CreatePolicy(1)],
            id="a wall",
        ),
    ],
)
def test_what_has_not_the_port_that_its_job_has_by_now_is_made_anew(
    kind: str, network: Manifest, port: int, acts: list[Action]
) -> None:
    """The job was changed while it was suspended, and is resumed."""
    other = spec(network={"isolate": True} | network)
    facts = seen(status=SUSPENDED, policy_uid="w", singles={kind: kept(kind)})
    done = [action for group in plan(other, facts, NOW).steps for action in group]
    ours = DeleteService | CreateService | DeletePolicy | CreatePolicy
    assert [one for one in done if isinstance(one, ours)] == acts
    assert any(f"has no port {port}" in one.message for one in done if isinstance(one, Announce))


@pytest.mark.parametrize(
    ("times", "age", "wait"),
    [
        pytest.param(0, 20, 10, id="one that was just made"),
        pytest.param(1, 20, 100, id="one that was repaired"),
        pytest.param(2, 30, 450, id="one that was repaired twice"),
        pytest.param(99999, 0, 30 * 4**8, id="one that somebody says was repaired very often"),
    ],
)
def test_what_is_changed_again_each_time_is_left_for_longer_and_longer(
    times: int, age: int, wait: int
) -> None:
    singles = {"Service": kept("Service", age=age, times=str(times), selector=None)}
    made = plan(spec(), seen(pod(0), pod(1), singles=singles), NOW)
    assert (made.steps, made.requeue_after) == ((), timedelta(seconds=wait))


def test_what_is_being_deleted_is_not_mended() -> None:
    going = OURS["Service"] | {"spec": {}}
    going["metadata"] = going["metadata"] | {"uid": "s", "deletionTimestamp": format_time(NOW)}
    known = read("Service", going)
    assert known is not None
    assert known.single is None


class Drift:
    """A running job on a cluster where somebody changes its Service."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.clock.run_until_complete(self.store.create(job()))
        self.operator = Operator(self.clock, Fated(self.store, REF))
        self.pass_time(1)

    def pass_time(self, seconds: int) -> None:
        self.clock.elapsed += seconds
        for _ in range(5):
            self.operator.hear_all()
            self.clock.tick()

    @property
    def service(self) -> Manifest:
        (there,) = self.store.objects("Service")
        return there

    def change(self) -> None:
        def alter(there: Manifest) -> None:
            there["spec"] |= {"selector": {"a": "b"}, "publishNotReadyAddresses": False}

        self.store.change(Ref.of(self.service), alter)

    @property
    def repairs(self) -> int:
        return sum(event["reason"] == "Repaired" for event in self.store.objects("Event"))

    def close(self) -> None:
        self.operator.close()
        self.clock.run_until_complete(asyncio.sleep(0))
        self.clock.close()


@pytest.fixture
def drift() -> Iterator[Drift]:
    made = Drift()
    yield made
    made.close()


def test_a_service_whose_selector_was_changed_has_its_own_again(drift: Drift) -> None:
    pods, made = object_names(drift.store, "Pod"), drift.service
    drift.change()
    drift.pass_time(1)
    drift.pass_time(35)
    assert drift.service["spec"] == made["spec"]
    assert object_names(drift.store, "Pod") == pods
    assert drift.repairs == 1


def test_a_service_that_somebody_changes_whenever_it_is_made_is_repaired_ever_less(
    drift: Drift,
) -> None:
    for _ in range(120):
        drift.change()
        drift.pass_time(30)
    assert drift.repairs == 4  # in an hour: after 30 s, 2 min, 8 min and 32 min
