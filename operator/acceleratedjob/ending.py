"""Stages in which a job is over, or becomes so."""

from datetime import datetime

from acceleratedjob import report
from acceleratedjob.actions import Announce, DeleteService
from acceleratedjob.api import Reason
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed
from acceleratedjob.situation import (
    FAILED_GANG_GRACE_SECONDS,
    Plan,
    Situation,
    Steps,
    deletions,
    steps,
)
from acceleratedjob.status import Status


def refuse(observed: Observed, error: InvalidSpec, generation: int, now: datetime) -> Plan:
    """The plan for a job that cannot be run: it fails, and nothing half-made stays."""
    if observed.status.finished:
        return Plan(status=observed.status)
    status = report.invalid(observed.status, str(error), generation, now)
    pods = deletions(observed.pods, FAILED_GANG_GRACE_SECONDS)
    service = (DeleteService(observed.service_uid),) if observed.service_uid else ()
    event = Announce(Reason.INVALID_SPEC, str(error), warning=True)
    return Plan(status=status, steps=steps(pods, service, (event,)))


def finished(at: Situation) -> Plan | None:
    """Over: only what cleanPodPolicy says."""
    if not at.status.finished:
        return None
    return Plan(status=at.status, steps=remains(at, at.status))


def remains(at: Situation, status: Status) -> Steps:
    """Deletions of the pods that cleanPodPolicy does not keep when a job is over."""
    unwanted = {
        "None": (),
        "Running": tuple(pod for pod in at.observed.pods if pod.ending is None),
        "All": at.observed.pods,
    }[at.spec.clean_pod_policy]
    broken = any(failure.attempt == status.attempt for failure in status.failures)
    return steps(deletions(unwanted, FAILED_GANG_GRACE_SECONDS if broken else None))


def refused(at: Situation) -> Plan | None:
    """The API server will never take its pods: over."""
    refusal = at.observed.refusal
    if refusal is None or not refusal.final:
        return None
    error = InvalidSpec("spec.template", refusal.message)
    return refuse(at.observed, error, at.spec.generation, at.now)


def succeeded(at: Situation) -> Plan | None:
    """Every replica has ended with 0: over."""
    current = at.current
    if at.missing or not all(pod.succeeded for pod in current.values()):
        return None
    seen = report.progress(at.spec, at.observed, at.now)
    status = report.succeeded(at.spec, seen, at.now)
    event = Announce(Reason.SUCCEEDED, f"All {at.spec.replicas} replicas have succeeded")
    return Plan(status=status, steps=(*remains(at, status), (event,)))
