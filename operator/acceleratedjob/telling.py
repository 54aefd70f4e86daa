"""What a pass tells beside the job's status: to the log, and to who counts."""

from acceleratedjob import metrics
from acceleratedjob.api import Manifest
from acceleratedjob.status import Status


def count_restart(old: Status, new: Status) -> None:
    """Count a new attempt that a failure has brought, rather than a resumption."""
    if new.attempt > old.attempt and new.failures != old.failures:
        metrics.RESTARTS.labels(metrics.restart_reason(new.failures[0].reason)).inc()


def about(job: Manifest, attempt: int | None = None) -> Manifest:
    """What a record of the log says about its job."""
    metadata = job["metadata"]
    known = (job.get("status") or {}).get("attempt") if attempt is None else attempt
    return {"namespace": metadata["namespace"], "job": metadata["name"], "attempt": known}
