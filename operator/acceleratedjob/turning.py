"""Stages that end an attempt while its job goes on, or is over by that."""

from dataclasses import replace

from acceleratedjob import report, restart
from acceleratedjob.actions import Announce
from acceleratedjob.api import ConditionType, Reason, parse_pod_name
from acceleratedjob.ending import remains
from acceleratedjob.sections import Verdict
from acceleratedjob.situation import (
    KUBELET_MARGIN,
    UNSCHEDULABLE_PATIENCE,
    Plan,
    Situation,
    deletions,
    grace_after,
    steps,
)


def suspended(at: Situation) -> Plan | None:
    """No pods."""
    if not at.spec.suspend:
        return None
    began = at.status.size is not None
    left = replace(
        at.status,
        attempt=at.status.attempt + began,
        terminating=report.terminating(at.observed.pods),
    )
    status = report.suspended(at.whole, left, at.now)
    new = not at.status.holds(ConditionType.SUSPENDED)
    event = (Announce(Reason.SUSPENDED, "The job is suspended"),) if new and began else ()
    return Plan(status=status, steps=steps(deletions(at.observed.pods, None), event))


def failed(at: Situation) -> Plan | None:
    """A pod has failed: a new attempt, or over."""
    causes = at.causes
    if not causes:
        return None
    first = min(causes)
    decision = restart.decide(first, at.status, at.spec)
    event = Announce(decision.reason, decision.message, warning=True)
    seen = report.progress(at.spec, at.observed, at.now)
    recorded = replace(
        seen.with_failure(restart.failure(first, at.spec, victims=len(causes) - 1)),
        failures_in_a_row=restart.in_a_row(at.status, at.spec.failure_policy.backoff, at.now),
    )
    if decision.verdict is Verdict.FAIL:
        status = report.failed(at.spec, recorded, decision.reason, decision.message, at.now)
        return Plan(status=status, steps=(*remains(at, status), (event,)))
    counted = decision.verdict is Verdict.RESTART
    recorded = replace(recorded, terminating=report.terminating(at.observed.pods))
    status = report.restarting(at.whole, recorded, decision.message, counted=counted, now=at.now)
    gone = deletions(at.observed.pods, grace_after(recorded.failures[0]))
    return Plan(status=status, steps=steps(gone, (event,)))


def changed(at: Situation) -> Plan | None:
    """What pods are made from was changed in a suspension that nobody saw: a new attempt."""
    if at.status.size is None or at.is_as_made:
        return None
    told = "The spec was changed while the job was suspended"
    old = replace(at.status, terminating=report.terminating(at.observed.pods))
    status = report.changing(at.whole, old, told, at.now)
    event = Announce(Reason.SPEC_CHANGED, told)
    return Plan(status=status, steps=steps(deletions(at.observed.pods, None), (event,)))


def resized(at: Situation) -> Plan | None:
    """The author wants another number of replicas, or not all find nodes: a new attempt."""
    if at.status.size is None:
        return None
    size, message = at.spec.replicas, f"spec.replicas is {at.spec.replicas}"
    if size == at.status.wanted:
        size = _placed(at)
        message = f"no more found a node within {UNSCHEDULABLE_PATIENCE.seconds} s"
    if size == at.spec.size:
        return None
    told = f"From {at.spec.size} to {size} replicas: {message}"
    old = replace(at.status, terminating=report.terminating(at.observed.pods))
    status = report.resizing(replace(at.whole, attempt_size=size), old, told, at.now)
    event = Announce(Reason.RESIZING, told)
    return Plan(status=status, steps=steps(deletions(at.observed.pods, None), (event,)))


def held(at: Situation) -> Plan | None:
    """A pod of a deleted job keeps a name of this attempt, and does not stop: a new attempt."""
    refusal = at.observed.refusal
    if refusal is None or refusal.holder is None:
        return None
    attempt, _ = parse_pod_name(refusal.holder) or (None, 0)
    if attempt != at.status.attempt or refusal.lasted < refusal.stops_within + KUBELET_MARGIN:
        return None
    told = f"Pod {refusal.holder} has not stopped in its time; the next attempt's names are free"
    old = replace(at.status, terminating=report.terminating(at.observed.pods))
    status = report.renaming(at.whole, old, told, at.now)
    event = Announce(Reason.NAME_TAKEN, told, warning=True)
    return Plan(status=status, steps=steps(deletions(at.observed.pods, None), (event,)))


def _placed(at: Situation) -> int:
    """How many replicas have found a node, if the others wait for too long and it is enough."""
    elastic, clocks = at.spec.elastic, at.status.clocks
    homeless = {
        index: clocks.since(Reason.UNSCHEDULABLE, index) or at.now
        for index, pod in at.current.items()
        if pod.waiting and pod.waiting.reason == Reason.UNSCHEDULABLE
    }
    longest = at.now - min(homeless.values(), default=at.now)
    if elastic is None or not homeless or longest < UNSCHEDULABLE_PATIENCE:
        return at.spec.size
    with_node = {index for index, pod in at.current.items() if pod.node is not None}
    placed = len(with_node | at.completed)
    return placed if placed >= elastic.min_replicas else at.spec.size
