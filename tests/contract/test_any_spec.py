"""Whatever is in a manifest, the operator reads it or names the field; and it always has a plan."""

import json
from dataclasses import replace
from datetime import timedelta

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.manifests.network import network_policy, service
from acceleratedjob.manifests.podgroup import pod_group
from acceleratedjob.observe.endings import Ending
from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import CreatePod
from acceleratedjob.planner.planner import decide
from tests.attempts import pod_of
from tests.contract.specs import manifest, specs
from tests.contract.test_crd import SCHEMA
from tests.operator.builders import NOW, UID
from tests.operator.builders import pod as seen_pod

STATUS = jsonschema.Draft202012Validator(SCHEMA["properties"]["status"])
_REASONS = st.sampled_from(
    ("Unschedulable", "ImagePullBackOff", "InvalidImageName", "SchedulingGated")
)
_ENDINGS = st.builds(
    Ending,
    exit_code=st.sampled_from((None, 0, 1, 137, 143)),
    reason=st.sampled_from(("Error", "OOMKilled", "Evicted", "StartError")),
    message=st.just(""),
    time=st.just(NOW),
)
_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "node": st.none(),
        "ready": st.booleans(),
        "ending": _ENDINGS,
        "waiting": st.builds(Waiting, reason=_REASONS, message=st.just("")),
        "disrupted": st.just("PreemptionByScheduler"),
        "delete_by": st.just(NOW + timedelta(seconds=30)),
        "deleted_at": st.just(NOW),
    },
)


@st.composite
def pods(draw: st.DrawFn, attempt: int) -> tuple[Pod, ...]:
    """Some pods of this attempt, and perhaps of the one before."""
    places = st.tuples(st.integers(max(0, attempt - 1), attempt), st.integers(0, 4))
    return tuple(
        seen_pod(index, number, **draw(_FACTS))
        for number, index in draw(st.sets(places, max_size=6))
    )


def refusal(made: Manifest) -> InvalidSpec | None:
    """What the operator has against a manifest."""
    try:
        JobSpec.from_manifest(made)
    except InvalidSpec as error:
        return error
    return None


@given(specs())
@settings(max_examples=300, deadline=None)
def test_a_job_is_read_or_its_field_is_named(spec: Manifest) -> None:
    made = manifest(spec)
    refused = refusal(made)
    if refused is not None:
        assert refused.field.startswith("spec")
        assert refused.message
        return
    job = JobSpec.from_manifest(made)
    objects = [service(job), network_policy(job), pod_group(job)]
    objects += [pod_of(job, attempt=3, index=job.replicas - 1)]
    json.dumps(objects, allow_nan=False)


@given(specs(), st.data())
@settings(max_examples=150, deadline=None)
def test_every_job_has_a_plan_whatever_its_pods_do(spec: Manifest, data: st.DataObject) -> None:
    """Pass after pass, from nothing: each status is one that the CRD takes, and is read back."""
    made = manifest(spec)
    made["metadata"]["uid"] = UID
    observed, now = Observed(), NOW
    refusals = st.none() | st.builds(
        Refusal, message=st.just("no"), final=st.booleans(), retry_in=st.just(timedelta())
    )
    for _ in range(4):
        job, plan = decide(made, observed, now)
        STATUS.validate(plan.status.to_manifest())
        assert Status.from_manifest({"status": plan.status.to_manifest()}) == plan.status
        assert plan.requeue_after is None or plan.requeue_after > timedelta()
        creations = [one for group in plan.steps for one in group if isinstance(one, CreatePod)]
        assert all(one.index < Attempt.current(job, plan.status).size for one in creations)
        assert all(one.attempt == plan.status.attempt for one in creations)
        if observed.status.finished:
            assert plan.status == observed.status
        found = data.draw(pods(plan.status.attempt))
        observed = replace(
            observed, status=plan.status, pods=found, refusal=data.draw(refusals), service_uid="s"
        )
        now += timedelta(seconds=data.draw(st.sampled_from((0, 1, 60, 10**6))))


@pytest.mark.parametrize("spec", [None, [], "spec", 7, {}], ids=repr)
def test_no_spec_at_all_is_refused(spec: object) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec"):
        JobSpec.from_manifest(manifest({}) | {"spec": spec})
