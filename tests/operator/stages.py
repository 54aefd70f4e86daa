"""A job of two replicas at each stage of its life."""

from dataclasses import replace

from acceleratedjob.api.names import Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.report import (
    failed,
    invalid,
    progress,
    restarting,
    succeeded,
    suspended,
)
from tests.operator.builders import NOW, ago, pod, spec

JOB = spec()
RUNNING = progress(JOB, Observed(pods=(pod(0), pod(1))), ago(60))
FAILURE = Failure(attempt=0, replica=1, pod="digits-0-1", reason="Error", time=format_time(NOW))
SECOND = restarting(JOB, RUNNING.with_failures(FAILURE), "", counted=True, now=NOW)
LATE = replace(SECOND, failures=(replace(FAILURE, time=format_time(ago(60))),))
SUSPENDED = suspended(JOB, replace(RUNNING, attempt=1), NOW)
NEVER = Refusal(message="no", final=True)
COMPLETE = succeeded(JOB, RUNNING, NOW)
INVALID = invalid(Status(), "no", 1, NOW)
FAILED = failed(JOB, RUNNING.with_failures(FAILURE), Reason.MAX_RESTARTS_EXCEEDED, "", NOW)


def made_from(job: JobSpec, observed: Observed) -> Observed:
    """The same, of an attempt that was made from this spec."""
    hashed = replace(observed.status, spec_hash=job.fingerprint)
    return replace(observed, status=hashed) if observed.status.spec_hash else observed


def seen(*pods: Pod, status: Status = RUNNING, **facts: object) -> Observed:
    """A job with its Service and these pods."""
    return Observed(status=status, pods=pods, **({"service_uid": "s"} | facts))  # type: ignore[arg-type]  # a table's row
