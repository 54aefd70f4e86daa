"""Stages that end an attempt: the job then starts another attempt, waits, or fails."""

from dataclasses import replace

from acceleratedjob.api.names import ConditionType, Reason, parse_pod_name
from acceleratedjob.api.sections import Verdict
from acceleratedjob.planner import failure_policy, progress, report, training
from acceleratedjob.planner.actions import Announce
from acceleratedjob.planner.completion import remains
from acceleratedjob.planner.state import (
    KUBELET_MARGIN,
    UNSCHEDULABLE_PATIENCE,
    Plan,
    Situation,
    grace_after,
    steps,
)
from acceleratedjob.planner.stopping import endings


def suspended(at: Situation) -> Plan | None:
    """The job is suspended: it has no pods."""
    if not at.spec.suspend:
        return None
    began = at.status.size is not None
    left = replace(
        training.ended(at.heard, at.now) if began else at.status,
        attempt=at.status.attempt + began,
        terminating=report.terminating(at.observed.pods),
    )
    status = report.suspended(at.spec, left, at.now)
    new = not at.status.holds(ConditionType.SUSPENDED)
    event = (Announce(Reason.SUSPENDED, "The job is suspended"),) if new and began else ()
    return Plan(status=status, steps=(*endings(at, at.observed.pods, None), *steps(event)))


def failed(at: Situation) -> Plan | None:
    """A pod has failed: start a new attempt, or fail the job."""
    causes = at.causes
    if not causes:
        return None
    first = min(causes)
    seen = report.progress(at.spec, at.observed, at.now)  # may tell of a checkpoint not written yet
    decision = failure_policy.decide(first, seen, at.spec)
    event = Announce(decision.reason, decision.message, warning=True)
    entry = failure_policy.failure(
        first,
        at.attempt.processes,
        checkpoint=progress.newest_checkpoint(first, seen),
        victims=len(causes) - 1,
    )
    in_a_row = failure_policy.in_a_row(
        seen,
        at.spec.failure_policy.backoff,
        at.now,
        has_progressed=progress.has_newer_checkpoint(first, seen),
    )
    recorded = replace(seen.with_failures(entry), failures_in_a_row=in_a_row)
    if decision.verdict is Verdict.FAIL:
        status = report.failed(at.spec, recorded, decision.reason, decision.message, at.now)
        return Plan(status=status, steps=(*remains(at, status), (event,)))
    counted = decision.verdict is Verdict.RESTART
    recorded = replace(recorded, terminating=report.terminating(at.observed.pods))
    status = report.restarting(at.spec, recorded, decision.message, counted=counted, now=at.now)
    gone = endings(at, at.observed.pods, grace_after(entry))
    return Plan(status=status, steps=(*gone, (event,)))


def changed(at: Situation) -> Plan | None:
    """The spec was changed in a suspension that no reconcile observed: start a new attempt."""
    if at.status.size is None or at.is_as_made:
        return None
    told = "The spec was changed while the job was suspended"
    old = replace(at.heard, terminating=report.terminating(at.observed.pods))
    status = report.changing(at.spec, old, told, at.now)
    event = Announce(Reason.SPEC_CHANGED, told)
    return Plan(status=status, steps=(*endings(at, at.observed.pods, None), (event,)))


def resized(at: Situation) -> Plan | None:
    """Start an attempt of another size if `spec.replicas` changed or some pods find no node."""
    if at.status.size is None:
        return None
    size, message = at.spec.replicas, f"spec.replicas is {at.spec.replicas}"
    if size == at.status.wanted:
        size = _placed(at)
        message = f"the other pods were not scheduled within {UNSCHEDULABLE_PATIENCE.seconds} s"
    if size == at.attempt.size:
        return None
    told = f"From {at.attempt.size} to {size} replicas: {message}"
    old = replace(at.heard, terminating=report.terminating(at.observed.pods))
    status = report.resizing(at.spec, old, size, told, at.now)
    event = Announce(Reason.RESIZING, told)
    return Plan(status=status, steps=(*endings(at, at.observed.pods, None), (event,)))


def held(at: Situation) -> Plan | None:
    """Start a new attempt if a pod of a deleted job does not stop, and still has a pod's name."""
    refusal = at.observed.refusal
    if refusal is None or refusal.holder is None:
        return None
    attempt, _ = parse_pod_name(refusal.holder) or (None, 0)
    if attempt != at.status.attempt or refusal.lasted < refusal.stops_within + KUBELET_MARGIN:
        return None
    told = (
        f"Pod {refusal.holder} of a deleted job has not stopped within its grace period; the pods "
        "of the next attempt have other names"
    )
    old = replace(at.heard, terminating=report.terminating(at.observed.pods))
    status = report.renaming(at.spec, old, told, at.now)
    event = Announce(Reason.NAME_TAKEN, told, warning=True)
    return Plan(status=status, steps=(*endings(at, at.observed.pods, None), (event,)))


def _placed(at: Situation) -> int:
    """Return the size to continue with: smaller if some pods have found no node for too long."""
    elastic, clocks = at.spec.elastic, at.status.clocks
    homeless = {
        index: clocks.since(Reason.UNSCHEDULABLE, index) or at.now
        for index, pod in at.current.items()
        if pod.waiting and pod.waiting.reason == Reason.UNSCHEDULABLE
    }
    longest = at.now - min(homeless.values(), default=at.now)
    if elastic is None or not homeless or longest < UNSCHEDULABLE_PATIENCE:
        return at.attempt.size
    with_node = {index for index, pod in at.current.items() if pod.node is not None}
    placed = len(with_node | at.completed)
    return placed if placed >= elastic.min_replicas else at.attempt.size
