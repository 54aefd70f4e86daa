"""Stages that end an attempt while its job goes on, or is over by that."""

from dataclasses import replace

from acceleratedjob import report, restart
from acceleratedjob.actions import Announce
from acceleratedjob.api import ConditionType, Reason
from acceleratedjob.ending import remains
from acceleratedjob.sections import Verdict
from acceleratedjob.situation import (
    FAILED_GANG_GRACE_SECONDS,
    Plan,
    Situation,
    deletions,
    steps,
)


def suspended(at: Situation) -> Plan | None:
    """No pods."""
    if not at.spec.suspend:
        return None
    began = bool(at.current) or at.status.replicas > 0
    attempt = at.status.attempt + began
    status = report.suspended(at.spec, replace(at.status, attempt=attempt), at.now)
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
        seen.with_failure(restart.failure(first, at.spec)),
        failures_in_a_row=restart.in_a_row(at.status, at.spec.failure_policy.backoff, at.now),
    )
    if decision.verdict is Verdict.FAIL:
        status = report.failed(at.spec, recorded, decision.reason, decision.message, at.now)
        return Plan(status=status, steps=(*remains(at, status), (event,)))
    counted = decision.verdict is Verdict.RESTART
    status = report.restarting(at.spec, recorded, decision.message, counted=counted, now=at.now)
    gone = deletions(at.observed.pods, FAILED_GANG_GRACE_SECONDS)
    return Plan(status=status, steps=steps(gone, (event,)))
