"""Stages in which a job has finished, or finishes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.sections import WITH_POD_GROUP
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.planner import deadlines, report
from acceleratedjob.planner.actions import (
    Announce,
    DeleteJob,
    DeletePodGroup,
    DeletePolicy,
    DeleteService,
)
from acceleratedjob.planner.state import (
    FAILED_GANG_GRACE_SECONDS,
    Plan,
    Situation,
    Steps,
    grace_after,
    steps,
)
from acceleratedjob.planner.stopping import endings


def refuse(at: Situation, error: InvalidSpec) -> Plan:
    """The plan for a job that cannot be run: it fails, and all of its objects are deleted."""
    status = report.invalid(at.status, str(error), at.spec.generation, at.now)
    event = Announce(Reason.INVALID_SPEC, str(error), warning=True)
    return Plan(status=status, steps=(*_removal(at), (event,)))


def _removal(at: Situation) -> Steps:
    """Deletions of all objects of a job; whether it has a PodGroup is not observed."""
    observed, gang = at.observed, at.spec.scheduling.gang
    group = (DeletePodGroup(gang),) if gang in WITH_POD_GROUP else ()
    pods = endings(at, observed.pods, FAILED_GANG_GRACE_SECONDS)
    service = (DeleteService(observed.service_uid),) if observed.service_uid else ()
    wall = (DeletePolicy(observed.policy_uid),) if observed.policy_uid else ()
    return (*steps(group), *pods, *steps(service + wall))


def finished(at: Situation) -> Plan | None:
    """The job has finished: apply cleanPodPolicy and ttlSecondsAfterFinished."""
    if not at.status.finished:
        return None
    status = replace(at.status, observed_generation=at.spec.generation)
    deletion = deadlines.deletion(at.spec, at.status)
    if deletion is not None and deletion <= at.now:
        return Plan(status=status, steps=((DeleteJob(),),))
    failed = at.status.condition(ConditionType.FAILED)
    never_ran = not _last_failures(status)
    if failed is not None and failed.reason == Reason.INVALID_SPEC and never_ran:
        # Some objects may still exist.
        return Plan(status=status, steps=_removal(at))
    return Plan(status=status, steps=remains(at, status))


def remains(at: Situation, status: Status) -> Steps:
    """Deletions of the pods of a finished job that cleanPodPolicy does not keep.

    It keeps none of an earlier attempt that still run.
    """
    unwanted = {
        "None": tuple(pod for pod in at.old if not pod.over),  # these are of no use to anybody
        "Running": tuple(pod for pod in at.observed.pods if not pod.over),
        "All": at.observed.pods,
    }[at.spec.clean_pod_policy]
    ends = _last_failures(status)
    return endings(at, unwanted, grace_after(ends[0]) if ends else None)


def _last_failures(status: Status) -> list[Failure]:
    """The failure that ended the current attempt, if there is one."""
    return [failure for failure in status.ends[:1] if failure.attempt == status.attempt]


def refused(at: Situation) -> Plan | None:
    """The API server rejects the pods for good: fail the job.

    An attempt that has all of its pods continues: what was rejected is, for example, a Service that
    is created again. That is retried, and the status reports it.
    """
    refusal = at.observed.refusal
    if refusal is None or not refusal.final or at.was_whole:
        return None
    return refuse(at, InvalidSpec(refusal.field, refusal.message))


def succeeded(at: Situation) -> Plan | None:
    """Every replica has exited with 0: the job succeeds, unless its spec has changed since."""
    if len(at.completed) < at.attempt.size or not at.is_as_made:
        return None
    seen = report.progress(at.spec, at.observed, at.now)
    status = report.succeeded(at.spec, seen, at.now)
    event = Announce(Reason.SUCCEEDED, f"All {at.attempt.size} replicas have succeeded")
    return Plan(status=status, steps=(*remains(at, status), (event,)))


def overdue(at: Situation) -> Plan | None:
    """A deadline is exceeded: fail the job; its pods have their grace period."""
    seen = report.progress(at.spec, at.observed, at.now)
    found = next((row for row in _deadlines(at, seen) if row[0] and row[0] <= at.now), None)
    if found is None:
        return None
    _, reason, message = found
    status = report.failed(at.spec, seen, reason, message, at.now)
    event = Announce(reason, message, warning=True)
    return Plan(status=status, steps=(*remains(at, status), (event,)))


def _deadlines(at: Situation, seen: Status) -> Iterator[tuple[datetime | None, Reason, str]]:
    """The deadlines, each with its reason and message."""
    name = f"activeDeadlineSeconds ({at.spec.active_deadline_seconds})"
    message = f"The job did not finish within {name} of its start"
    yield deadlines.active(at.spec, seen), Reason.DEADLINE_EXCEEDED, message
    name = f"startupDeadlineSeconds ({at.spec.startup_deadline_seconds})"
    message = f"{seen.ready_ratio} replicas of attempt {seen.attempt} were up within {name}"
    for entry in seen.pending[:1]:
        message += f"; {entry.count} wait, {entry.reason}: {entry.message}"
    yield deadlines.startup(at.spec, seen), Reason.STARTUP_DEADLINE_EXCEEDED, message
