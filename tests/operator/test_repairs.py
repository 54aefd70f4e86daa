"""A Service or a NetworkPolicy that somebody has changed is made anew, and it is told."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from acceleratedjob.actions import Announce, DeletePolicy, DeleteService
from acceleratedjob.api import Manifest
from acceleratedjob.cluster import Ref
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.observe import Single
from acceleratedjob.plan import plan
from acceleratedjob.services import essence, network_policy, service
from tests.operator.builders import NOW, ago, job, pod, spec
from tests.operator.clockwork import Clock, Fated, Operator
from tests.operator.lives import REF, names
from tests.operator.stages import seen

JOB = spec(network={"isolate": True})
OURS = {"Service": service(JOB), "NetworkPolicy": network_policy(JOB)}


def changed(kind: str, **fields: Any) -> str:
    return essence(kind, {"spec": OURS[kind]["spec"] | fields})


@pytest.mark.parametrize(
    ("kind", "found", "is_repaired"),
    [
        pytest.param("Service", changed("Service"), False, id="as it was made"),
        pytest.param(
            "Service",
            changed("Service", ipFamilies=["IPv4"], sessionAffinity="None"),
            False,
            id="with what the API server adds",
        ),
        pytest.param("Service", changed("Service", selector={"a": "b"}), True, id="other pods"),
        pytest.param("Service", changed("Service", selector=None), True, id="no pods"),
        pytest.param(
            "Service",
            changed("Service", publishNotReadyAddresses=False),
            True,
            id="only pods that are ready",
        ),
        pytest.param("NetworkPolicy", changed("NetworkPolicy"), False, id="a wall as it was made"),
        pytest.param(
            "NetworkPolicy", changed("NetworkPolicy", ingress=[{}]), True, id="an open wall"
        ),
    ],
)
def test_what_was_changed_is_made_anew(kind: str, found: str, is_repaired: bool) -> None:
    singles = {kind: Single(essence=found, made=ago(60))}
    made = plan(JOB, seen(pod(0), pod(1), policy_uid="w", singles=singles), NOW)
    delete = DeleteService("s") if kind == "Service" else DeletePolicy("w")
    actions = [action for group in made.steps for action in group]
    assert [action for action in actions if not isinstance(action, Announce)] == (
        [delete] * is_repaired
    )
    told = [action.reason for action in actions if isinstance(action, Announce)]
    assert told == ["Repaired"] * is_repaired


def test_what_is_changed_at_once_each_time_is_left_for_a_while() -> None:
    singles = {"Service": Single(essence=changed("Service", selector=None), made=ago(20))}
    made = plan(spec(), seen(pod(0), pod(1), singles=singles), NOW)
    assert (made.steps, made.requeue_after) == ((), timedelta(seconds=10))


def test_a_service_whose_selector_was_changed_has_its_own_again() -> None:
    clock = Clock()
    store = LocalCluster(now=clock.now)
    clock.run_until_complete(store.create(job()))
    operator = Operator(clock, Fated(store, REF))

    def pass_time(seconds: int) -> None:
        clock.elapsed += seconds
        for _ in range(5):
            operator.hear_all()
            clock.tick()

    def drift(found: Manifest) -> None:
        found["spec"] |= {"selector": {"a": "b"}, "publishNotReadyAddresses": False}

    pass_time(1)
    pods = names(store, "Pod")
    (made,) = store.objects("Service")
    store.change(Ref.of(made), drift)
    pass_time(1)
    pass_time(35)
    (found,) = store.objects("Service")
    assert found["spec"] == made["spec"]
    assert names(store, "Pod") == pods
    events = [event["reason"] for event in store.objects("Event")]
    assert events.count("Repaired") == 1
    operator.close()
    clock.run_until_complete(asyncio.sleep(0))
    clock.close()
