"""What a stop of a job loses, and whether the job has stopped."""

from datetime import datetime

from acceleratedjob.api.names import Phase, View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age, parse_time


def loss_of_a_stop(job: View, now: datetime) -> str | None:
    """Return what a stop loses; None if nothing."""
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    if job["spec"].get("checkpoint") is not None or status.ready_time is None:
        return None
    up = age((now - parse_time(status.ready_time)).total_seconds())
    step = None if status.progress is None else status.progress.step
    steps = "" if step is None else f" and {step} steps"
    return (
        f"{name} has no spec.checkpoint: unless its script saves and loads checkpoints by itself, "
        f"a stop loses the training so far, {up}{steps}"
    )


def is_at_rest(job: View) -> bool:
    """Whether a suspended job has no pods any more, or the job has finished."""
    status = Status.from_manifest(job)
    is_seen = (status.observed_generation or 0) >= job["metadata"]["generation"]
    is_idle = status.phase == Phase.SUSPENDED and not status.replicas and not status.terminating
    return status.finished or (is_seen and is_idle)
