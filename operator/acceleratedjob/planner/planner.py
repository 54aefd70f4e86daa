"""Decides what to do for a job, from its spec and its observed state.

`STAGES` are the stages of a job's life, the last one first. The first stage that applies returns
the whole plan: the status to write, and then the steps to execute. Every reconcile makes a new plan
from the observed state, so no plan depends on the execution of an earlier one.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from acceleratedjob.api.names import Manifest, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status, news
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner import (
    attempts,
    completion,
    deadlines,
    invalid,
    lives,
    startup,
    stopping,
    training,
)
from acceleratedjob.planner.actions import Announce
from acceleratedjob.planner.state import Plan, Situation, Stage, steps

# The first stage that applies makes the plan.
STAGES: tuple[Stage, ...] = (
    completion.finished,  # the job has finished: cleanPodPolicy and ttlSecondsAfterFinished apply
    completion.refused,  # the API server rejects the pods for good: the job fails
    completion.succeeded,  # every replica has exited with 0: the job succeeds, suspended or not
    attempts.suspended,  # the job is suspended: no pods
    attempts.changed,  # the pods were created from another spec: a new attempt
    attempts.failed,  # a pod has failed: a new attempt, or the job fails
    completion.overdue,  # a deadline is exceeded: the job fails
    attempts.resized,  # the size has changed: a new attempt
    attempts.held,  # a pod's name is taken by a pod that does not terminate: a new attempt
    startup.waiting,  # wait for old pods to stop, for the backoff, for a quota
    startup.creating,  # create what is missing
    startup.running,  # update the status
)


# For a job whose spec is invalid: its attempt continues unchanged, and no other attempt starts.
INVALID_STAGES: tuple[Stage, ...] = (
    completion.finished,
    completion.succeeded,
    invalid.suspended,
    invalid.failed,
    completion.overdue,
    invalid.going_on,
    invalid.ended,
)


def plan(
    spec: JobSpec, observed: Observed, now: datetime, refused: InvalidSpec | None = None
) -> Plan:
    """Make the plan for a job.

    Args:
        spec: the desired state.
        observed: the observed state.
        now: the current time, aware, in UTC.
        refused: why the spec is invalid; `spec` then has the fields that could be read.
    """
    situation = Situation(spec, observed, now, refused)
    plans = (stage(situation) for stage in (INVALID_STAGES if refused else STAGES))
    made = invalid.told(situation, next(found for found in plans if found is not None))
    made = replace(made, status=training.with_stops(made.status, observed.pods))
    verdicts = tuple(
        Announce(one.reason, one.message, warning=True)
        for one in news(observed.status, made.status)
    )
    told = training.went_on(observed.status, made.status)
    begun = () if told is None else (Announce(Reason.WENT_ON, told),)
    in_place = tuple(
        Announce(Reason.RESTARTED_IN_PLACE, sentence, warning=True)
        for sentence in lives.news(observed.status, made.status)
    )
    made = replace(made, steps=(*made.steps, *steps((*in_place, *verdicts, *begun))))
    due = [made.requeue_after] if made.requeue_after is not None else []
    due += stopping.due(situation)
    due += [time - now for time in deadlines.due(spec, made.status) if time > now]
    return replace(made, requeue_after=min(due, default=None))


def decide(
    job: Manifest,
    observed: Observed,
    now: datetime,
    read: Callable[[Manifest], JobSpec] = JobSpec.from_manifest,
) -> tuple[JobSpec, Plan]:
    """Return the spec and the plan of a job, whether or not its spec is valid."""
    refused: InvalidSpec | None = None
    try:
        spec = read(job)
    except InvalidSpec as error:
        refused, spec = error, _as_made(JobSpec.from_refused(job), observed.status)
    return spec, plan(spec, observed, now, refused)


def _as_made(spec: JobSpec, status: Status) -> JobSpec:
    """Return an invalid spec with the fingerprint and the number of processes of the attempt."""
    made_from = (status.spec_hash,) if status.spec_hash else ()
    processes = status.processes_per_replica or spec.processes_per_replica
    return replace(spec, fingerprints=made_from, processes_per_replica=processes)
