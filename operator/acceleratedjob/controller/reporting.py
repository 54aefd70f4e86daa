"""Log records and metrics about a reconcile."""

import logging
from collections.abc import Iterable

from acceleratedjob import metrics
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.reasons import without_names
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.errors import ClusterError, NoAnswer

log = logging.getLogger(__name__)


def count_restarts(old: Status, new: Status) -> None:
    """Count lives that have begun, and a new attempt that follows a failure, not a suspension."""
    metrics.RESTARTS_IN_PLACE.inc(max(0, new.restarts_in_place - old.restarts_in_place))
    if new.attempt > old.attempt and new.ends != old.ends:
        metrics.RESTARTS.labels(metrics.restart_reason(new.ends[0].reason)).inc()


def about(job: Manifest, attempt: int | None = None) -> Manifest:
    """Return the fields of a log record that identify the job."""
    metadata = job["metadata"]
    known = (job.get("status") or {}).get("attempt") if attempt is None else attempt
    return {"namespace": metadata["namespace"], "job": metadata["name"], "attempt": known}


def log_refused_event(spec: JobSpec, error: ClusterError) -> None:
    """Log that the API server refused an Event."""
    log.warning("%s/%s: event refused: %s", spec.namespace, spec.name, error)


def log_failed_reconcile(job: Manifest, error: Exception, seconds: float) -> None:
    """Log a failed reconcile: each distinct error once, however many actions raised it.

    Args:
        job: the job.
        error: the error of one action, or a group of errors.
        seconds: the time until the next try.
    """
    errors = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
    for alike in _alike(errors):
        count = f" ({len(alike)} times)" if len(alike) > 1 else ""
        level, trace = _severity(alike[0])
        sentence = "retry in %g s: %s%s"
        log.log(level, sentence, seconds, alike[0], count, exc_info=trace, extra=about(job))


def _alike(errors: Iterable[Exception]) -> Iterable[list[Exception]]:
    found: dict[tuple[type, str], list[Exception]] = {}
    for error in errors:
        found.setdefault((type(error), without_names(str(error))), []).append(error)
    return found.values()


def _severity(error: Exception) -> tuple[int, Exception | None]:
    """Return the log level of an error, and the error itself if its traceback should be logged."""
    if isinstance(error, NoAnswer):  # logged once for all jobs, by `kube.health.Contact`
        return logging.DEBUG, None
    if isinstance(error, ClusterError | OSError):
        return logging.WARNING, None
    return logging.ERROR, error
