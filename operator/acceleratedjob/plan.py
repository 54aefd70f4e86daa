"""What to do for a job, from what is wanted and what is seen. Pure: no clock, no network, no log.

`STAGES` is the life of a job, latest first. The first stage that applies gives the whole plan:
the status to write and then the steps to take. A plan is made again from what is seen after
every change, so no plan needs the one before it to have been carried out.
"""

from dataclasses import replace
from datetime import datetime

from acceleratedjob import ending, invalid, starting, timers, turning
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed
from acceleratedjob.situation import Plan, Situation, Stage, of_attempt
from acceleratedjob.spec import JobSpec

# The first that applies makes the plan.
STAGES: tuple[Stage, ...] = (
    ending.finished,  # over: only what cleanPodPolicy and ttlSecondsAfterFinished say
    ending.refused,  # the API server will never take its pods: over
    ending.succeeded,  # every replica has ended with 0: over, also if it is suspended since
    turning.suspended,  # no pods
    turning.changed,  # its pods are made from another spec: a new attempt
    turning.failed,  # a pod has failed: a new attempt, or over
    ending.overdue,  # a deadline is over: over
    turning.resized,  # of another size: a new attempt
    turning.held,  # a name is taken by what does not go: a new attempt
    starting.waiting,  # for old pods to stop, for the backoff, for a quota
    starting.creating,  # what is missing
    starting.running,  # nothing to do but to tell
)


# The same for a job whose spec is refused: its attempt goes on as it was made, and no other begins.
INVALID_STAGES: tuple[Stage, ...] = (
    ending.finished,
    ending.succeeded,
    invalid.suspended,
    invalid.failed,
    ending.overdue,
    invalid.going_on,
    invalid.ended,
)


def plan(
    spec: JobSpec, observed: Observed, now: datetime, refused: InvalidSpec | None = None
) -> Plan:
    """Decide about one job.

    Args:
        spec: what the author wants.
        observed: what there is.
        now: the time, aware, in UTC.
        refused: why no pod can be made from the spec, of which `spec` has what can be read.
    """
    situation = Situation(of_attempt(spec, observed.status), observed, now, refused)
    plans = (stage(situation) for stage in (INVALID_STAGES if refused else STAGES))
    made = invalid.told(situation, next(found for found in plans if found is not None))
    due = [made.requeue_after] if made.requeue_after is not None else []
    due += [time - now for time in timers.due(spec, made.status) if time > now]
    return replace(made, requeue_after=min(due, default=None))
