"""Stages of a job whose spec is invalid for this operator.

The attempt was started by another version of the operator, or the spec was edited since. Neither is
a reason to stop running pods, so the attempt continues unchanged. No new attempt can start, so the
job ends with this attempt.
"""

from dataclasses import replace

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.status import Condition, Status, condition, with_conditions
from acceleratedjob.planner import attempts, failure_policy, report
from acceleratedjob.planner.actions import Action, Announce
from acceleratedjob.planner.completion import refuse, remains
from acceleratedjob.planner.failures import subject
from acceleratedjob.planner.startup import old_pods
from acceleratedjob.planner.state import Plan, Situation


def suspended(at: Situation) -> Plan | None:
    """The job is suspended: it has no pods, and its spec may be corrected before it is resumed."""
    status = at.status
    was_suspended = status.holds(ConditionType.SUSPENDED) and status.attempt > 0
    return attempts.suspended(at) if status.size is not None or was_suspended else None


def failed(at: Situation) -> Plan | None:
    """A pod has failed: fail the job, because no attempt can follow."""
    usual = attempts.failed(at)
    if usual is None or usual.status.finished:
        return usual
    first, *others = sorted(at.causes)
    told = f"{subject(first.pod)} {first.message}; no new attempt can start: {at.invalid}"
    seen = report.progress(at.spec, at.observed, at.now)
    entry = failure_policy.failure(first, at.attempt.processes, victims=len(others))
    recorded = seen.with_failures(entry)
    status = report.failed(at.spec, recorded, Reason.INVALID_SPEC, told, at.now)
    event = Announce(Reason.INVALID_SPEC, told, warning=True)
    return Plan(status=status, steps=(*remains(at, status), (event,)))


def going_on(at: Situation) -> Plan | None:
    """The attempt has all of its pods: update the status."""
    if at.status.size is None or at.missing:
        return None
    return Plan(
        status=report.progress(at.spec, at.observed, at.now),
        steps=old_pods(at),
    )


def ended(at: Situation) -> Plan | None:
    """No attempt can continue: fail the job."""
    return None if at.invalid is None else refuse(at, at.invalid)


def told(at: Situation, made: Plan) -> Plan:
    """Add the condition Stalled, and an Event, to the plan of a job whose spec is invalid."""
    if made.status.holds(ConditionType.FAILED):
        return made
    is_stalled = at.invalid is not None and not made.status.finished
    if not is_stalled and not at.status.holds(ConditionType.STALLED):
        return made
    new = _refused(at, made.status) if is_stalled else _accepted(at, made.status)
    known = at.status.condition(ConditionType.STALLED)
    is_news = is_stalled and (known is None or known.message != new.message)
    event: tuple[Action, ...] = (Announce(Reason.INVALID_SPEC, new.message, warning=True),)
    return replace(
        made,
        status=with_conditions(made.status, [new], at.now),
        steps=(*made.steps, event) if is_news else made.steps,
    )


def _refused(at: Situation, status: Status) -> Condition:
    if status.size is None:
        how = "the job remains suspended, and cannot be resumed"
    else:
        how = f"attempt {status.attempt} continues unchanged, but no new attempt can start"
    sentence = f"{at.invalid}; {how}"
    return condition(ConditionType.STALLED, True, Reason.INVALID_SPEC, sentence, at.spec.generation)


def _accepted(at: Situation, status: Status) -> Condition:
    reason = Reason.FINISHED if status.finished else Reason.ACCEPTED
    return condition(ConditionType.STALLED, False, reason, "", at.spec.generation)
