"""What a pass tells beside the job's status: to the log, and to who counts."""

import logging
from collections.abc import Iterable

from acceleratedjob import metrics
from acceleratedjob.api import Manifest
from acceleratedjob.errors import ClusterError, NoAnswer
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status
from acceleratedjob.waits import without_names

log = logging.getLogger(__name__)


def count_restart(old: Status, new: Status) -> None:
    """Count a new attempt that a failure has brought, rather than a resumption."""
    if new.attempt > old.attempt and new.failures != old.failures:
        metrics.RESTARTS.labels(metrics.restart_reason(new.failures[0].reason)).inc()


def about(job: Manifest, attempt: int | None = None) -> Manifest:
    """What a record of the log says about its job."""
    metadata = job["metadata"]
    known = (job.get("status") or {}).get("attempt") if attempt is None else attempt
    return {"namespace": metadata["namespace"], "job": metadata["name"], "attempt": known}


def log_refused_event(spec: JobSpec, error: ClusterError) -> None:
    """An Event was not taken, which holds up nothing."""
    log.warning("%s/%s: event refused: %s", spec.namespace, spec.name, error)


def log_failed_pass(job: Manifest, error: Exception, seconds: float) -> None:
    """A pass has failed: each of its errors once, however many actions have met it.

    Args:
        job: whose.
        error: the error of one action, or the group of several.
        seconds: until it is tried again.
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
    """The level of an error, and the traceback of what nobody expected."""
    if isinstance(error, NoAnswer):  # said once for all jobs, see `kube.contact`
        return logging.DEBUG, None
    if isinstance(error, ClusterError | OSError):
        return logging.WARNING, None
    return logging.ERROR, error
