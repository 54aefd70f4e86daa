"""What to do for a job, from what is wanted and what is seen. Pure: no clock, no network, no log.

`STAGES` is the life of a job, latest first. The first stage that applies gives the whole plan:
the status to write and then the steps to take. A plan is made again from what is seen after
every change, so no plan needs the one before it to have been carried out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from acceleratedjob import report, restart
from acceleratedjob.actions import (
    Action,
    Announce,
    CreatePod,
    CreateService,
    DeletePod,
    DeleteService,
)
from acceleratedjob.api import ConditionType, Reason
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed, Pod, parse_time
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status

# Survivors of a failed attempt hang in a collective and have nothing to save.
FAILED_GANG_GRACE_SECONDS = 5
# A kubelet that answers has ended a pod's containers this long after the pod's own deadline.
KUBELET_MARGIN = timedelta(seconds=30)

Steps = tuple[tuple[Action, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The status to write, then the steps: each a group of actions that may run side by side."""

    status: Status
    steps: Steps = ()
    requeue_after: timedelta | None = None  # look again then, even if nothing changes


@dataclass(frozen=True, slots=True)
class Situation:
    """What a stage decides from."""

    spec: JobSpec
    observed: Observed
    now: datetime

    @property
    def status(self) -> Status:
        """The status as last written."""
        return self.observed.status

    @property
    def current(self) -> dict[int, Pod]:
        """Pods of the current attempt by replica index, also those gone after success."""
        pods = (*(pod for pod in self.observed.lost if pod.succeeded), *self.observed.pods)
        return {pod.index: pod for pod in pods if self._is_current(pod)}

    @property
    def old(self) -> tuple[Pod, ...]:
        """Pods that exist and should not: of another attempt, or beyond the replicas."""
        return tuple(pod for pod in self.observed.pods if not self._is_current(pod))

    @property
    def missing(self) -> list[int]:
        """Replica indices without a pod."""
        return [i for i in range(self.spec.replicas) if i not in self.current]

    def _is_current(self, pod: Pod) -> bool:
        return pod.attempt == self.status.attempt and pod.index < self.spec.replicas

    @property
    def causes(self) -> list[restart.Cause]:
        """Why the current attempt is over, if it is; also a pod that went while nobody watched."""
        found = list(restart.causes(self.observed, self.now))
        if found or self.status.replicas < self.spec.replicas:
            return found
        return [restart.vanished(self.spec, self.status, index, self.now) for index in self.missing]


Stage = Callable[[Situation], Plan | None]


def plan(spec: JobSpec, observed: Observed, now: datetime) -> Plan:
    """Decide about one job.

    Args:
        spec: what the author wants.
        observed: what there is.
        now: the time, aware, in UTC.
    """
    situation = Situation(spec, observed, now)
    plans = (stage(situation) for stage in STAGES)
    return next(found for found in plans if found is not None)


def refuse(observed: Observed, error: InvalidSpec, generation: int, now: datetime) -> Plan:
    """The plan for a job that cannot be run: it fails, and nothing half-made stays."""
    if observed.status.finished:
        return Plan(status=observed.status)
    status = report.invalid(observed.status, str(error), generation, now)
    pods = _deletions(observed.pods, FAILED_GANG_GRACE_SECONDS)
    service = (DeleteService(observed.service_uid),) if observed.service_uid else ()
    event = Announce(Reason.INVALID_SPEC, str(error), warning=True)
    return Plan(status=status, steps=_steps(pods, service, (event,)))


def _steps(*groups: tuple[Action, ...]) -> Steps:
    return tuple(group for group in groups if group)


def _deletions(pods: tuple[Pod, ...], grace: int | None) -> tuple[Action, ...]:
    """Delete what is not being deleted already."""
    return tuple(DeletePod(pod.name, pod.uid, grace) for pod in pods if pod.delete_by is None)


def _finished(at: Situation) -> Plan | None:
    if not at.status.finished:
        return None
    return Plan(status=at.status, steps=_remains(at, at.status))


def _remains(at: Situation, status: Status) -> Steps:
    """Deletions of the pods that cleanPodPolicy does not keep when a job is over."""
    unwanted = {
        "None": (),
        "Running": tuple(pod for pod in at.observed.pods if pod.ending is None),
        "All": at.observed.pods,
    }[at.spec.clean_pod_policy]
    failed = status.holds(ConditionType.FAILED)
    return _steps(_deletions(unwanted, FAILED_GANG_GRACE_SECONDS if failed else None))


def _refused(at: Situation) -> Plan | None:
    refusal = at.observed.refusal
    if refusal is None or not refusal.final:
        return None
    error = InvalidSpec("spec.template", refusal.message)
    return refuse(at.observed, error, at.spec.generation, at.now)


def _suspended(at: Situation) -> Plan | None:
    if not at.spec.suspend:
        return None
    began = bool(at.current) or at.status.replicas > 0
    attempt = at.status.attempt + began
    status = report.suspended(at.spec, replace(at.status, attempt=attempt), at.now)
    new = not at.status.holds(ConditionType.SUSPENDED)
    event = (Announce(Reason.SUSPENDED, "The job is suspended"),) if new and began else ()
    return Plan(status=status, steps=_steps(_deletions(at.observed.pods, None), event))


def _failed_attempt(at: Situation) -> Plan | None:
    causes = at.causes
    if not causes:
        return None
    first = min(causes)
    decision = restart.decide(first, at.status, at.spec)
    event = Announce(decision.reason, decision.message, warning=True)
    seen = report.progress(at.spec, at.observed, at.now)
    recorded = seen.with_failure(restart.failure(first, at.spec))
    if decision.verdict is restart.Verdict.FAIL:
        status = report.failed(at.spec, recorded, decision.reason, decision.message, at.now)
        return Plan(status=status, steps=(*_remains(at, status), (event,)))
    counted = decision.verdict is restart.Verdict.RESTART
    status = report.restarting(at.spec, recorded, decision.message, counted=counted, now=at.now)
    deletions = _deletions(at.observed.pods, FAILED_GANG_GRACE_SECONDS)
    return Plan(status=status, steps=_steps(deletions, (event,)))


def _succeeded(at: Situation) -> Plan | None:
    current = at.current
    if at.missing or not all(pod.succeeded for pod in current.values()):
        return None
    seen = report.progress(at.spec, at.observed, at.now)
    status = report.succeeded(at.spec, seen, at.now)
    event = Announce(Reason.SUCCEEDED, f"All {at.spec.replicas} replicas have succeeded")
    return Plan(status=status, steps=(*_remains(at, status), (event,)))


def _waiting(at: Situation) -> Plan | None:
    """Nothing starts while old pods may still run, nor before the backoff is over."""
    if not at.missing:
        return None
    ends = [_backoff_end(at), *(_stops_by(pod, at) for pod in at.old if pod.ending is None)]
    if at.observed.refusal is not None:
        ends.append(at.observed.refusal.retry_at)
    if max(ends) <= at.now:
        return None
    status = report.progress(at.spec, at.observed, at.now)
    return Plan(status=status, steps=_cleaning(at), requeue_after=max(ends) - at.now)


def _backoff_end(at: Situation) -> datetime:
    """When the current attempt may begin; its predecessor's failure is the newest, if it failed."""
    newest = at.status.failures[:1]
    if not newest or newest[0].attempt != at.status.attempt - 1:
        return at.now
    delay = restart.delay(at.spec.failure_policy.backoff, at.status.restarts)
    return parse_time(newest[0].time) + delay


def _stops_by(pod: Pod, at: Situation) -> datetime:
    """When a pod's containers have stopped even if its node is gone and tells nothing."""
    grace = timedelta(seconds=at.spec.grace_seconds)
    return (pod.delete_by or at.now + grace) + KUBELET_MARGIN


def _cleaning(at: Situation) -> Steps:
    """Old pods go: those of a failed attempt soon, those that may save something in their time."""
    failed = {failure.attempt for failure in at.status.failures}
    soon = tuple(pod for pod in at.old if pod.attempt in failed)
    later = tuple(pod for pod in at.old if pod.attempt not in failed)
    hurried = _deletions(soon, FAILED_GANG_GRACE_SECONDS)
    return _steps(hurried + _deletions(later, None))


def _creating(at: Situation) -> Plan | None:
    """The Service, then one pod that shows whether the API server takes them, then the others."""
    missing = at.missing
    if not missing and at.observed.service_uid:
        return None
    service = () if at.observed.service_uid else (CreateService(),)
    creations = tuple(CreatePod(at.status.attempt, index) for index in missing)
    probe, rest = (creations[:1], creations[1:]) if not at.current else ((), creations)
    resumed = at.status.holds(ConditionType.SUSPENDED) and at.status.attempt > 0
    event = (Announce(Reason.RESUMED, "The job is resumed"),) if resumed else ()
    status = report.progress(at.spec, at.observed, at.now)
    steps = (*_cleaning(at), *_steps(service, probe, rest, event))
    return Plan(status=status, steps=steps)


def _running(at: Situation) -> Plan:
    return Plan(status=report.progress(at.spec, at.observed, at.now), steps=_cleaning(at))


# The first that applies makes the plan.
STAGES: tuple[Stage, ...] = (
    _finished,  # over: only what cleanPodPolicy says
    _refused,  # the API server will never take its pods: over
    _suspended,  # no pods
    _failed_attempt,  # a pod has failed: a new attempt, or over
    _succeeded,  # every replica has ended with 0: over
    _waiting,  # for old pods to stop, for the backoff, for a quota
    _creating,  # what is missing
    _running,  # nothing to do but to tell
)
