"""Stages of a job whose spec this operator refuses, though another one has accepted it.

Another version of the operator made its attempt, or its author has changed it since. Pods are not
ended for that: the attempt goes on as it was made. No other can begin, so whatever ends it ends the
job.
"""

from dataclasses import replace

from acceleratedjob import report, restart, turning
from acceleratedjob.actions import Action, Announce
from acceleratedjob.api import ConditionType, Reason
from acceleratedjob.causes import subject
from acceleratedjob.ending import refuse, remains
from acceleratedjob.situation import Plan, Situation, steps
from acceleratedjob.starting import old_pods
from acceleratedjob.status import Condition, Status, condition, with_conditions


def suspended(at: Situation) -> Plan | None:
    """No pods, as its author wants; the spec may be corrected before the job is resumed."""
    status = at.status
    was_suspended = status.holds(ConditionType.SUSPENDED) and status.attempt > 0
    return turning.suspended(at) if status.size is not None or was_suspended else None


def failed(at: Situation) -> Plan | None:
    """A pod has failed: over, as no attempt can follow."""
    usual = turning.failed(at)
    if usual is None or usual.status.finished:
        return usual
    first, *others = sorted(at.causes)
    told = f"{subject(first.pod)} {first.message}; no other attempt can begin: {at.invalid}"
    seen = report.progress(at.spec, at.observed, at.now)
    recorded = seen.with_failure(restart.failure(first, at.spec, victims=len(others)))
    status = report.failed(at.spec, recorded, Reason.INVALID_SPEC, told, at.now)
    event = Announce(Reason.INVALID_SPEC, told, warning=True)
    return Plan(status=status, steps=(*remains(at, status), (event,)))


def going_on(at: Situation) -> Plan | None:
    """The attempt has all of its pods: nothing to do but to tell."""
    if at.status.size is None or at.missing:
        return None
    return Plan(
        status=report.progress(at.spec, at.observed, at.now),
        steps=steps(old_pods(at)),
    )


def ended(at: Situation) -> Plan | None:
    """Nothing has begun that could go on: over."""
    return None if at.invalid is None else refuse(at, at.invalid)


def told(at: Situation, made: Plan) -> Plan:
    """The plan with the condition, and an event, that say whether its spec holds the job up."""
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
        how = "the job stays suspended, and cannot be resumed"
    else:
        how = f"attempt {status.attempt} goes on as it was made, and no other can begin"
    sentence = f"{at.invalid}; {how}"
    return condition(ConditionType.STALLED, True, Reason.INVALID_SPEC, sentence, at.spec.generation)


def _accepted(at: Situation, status: Status) -> Condition:
    reason = Reason.FINISHED if status.finished else Reason.ACCEPTED
    return condition(ConditionType.STALLED, False, reason, "", at.spec.generation)
