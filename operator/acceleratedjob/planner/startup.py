"""Stages that start an attempt."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from acceleratedjob.api import devices
from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.sections import WITH_POD_GROUP
from acceleratedjob.api.spec import AUTO
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner import failure_policy, repairs, report
from acceleratedjob.planner.actions import (
    Action,
    Announce,
    CreateClaim,
    CreatePod,
    CreatePodGroup,
    CreatePolicy,
    CreateService,
    DeletePodGroup,
    DeletePolicy,
)
from acceleratedjob.planner.state import (
    KUBELET_MARGIN,
    Plan,
    Situation,
    Steps,
    grace_after,
    steps,
)
from acceleratedjob.planner.stopping import endings


def waiting(at: Situation) -> Plan | None:
    """Wait while old pods may still run, or until the backoff is over.

    After the API server has refused a write, wait until it is retried, even if only the Service is
    missing.
    """
    if not at.missing and not any(True for _ in _objects(at)):
        return None
    held_up = [pod for pod in at.old if not pod.stopped] if at.missing else []
    ends = [_stops_by(pod, at) for pod in held_up]
    ends.append(_backoff_end(at) if at.missing else at.now)
    if at.observed.refusal is not None:
        ends.append(at.now + at.observed.refusal.retry_in)
    if max(ends) <= at.now:
        return None
    status = report.progress(at.spec, at.observed, at.now)
    late = [pod for pod in held_up if _stops_by(pod, at) < at.now + KUBELET_MARGIN]
    if late:
        status = report.held_up(status, at.status, late, len(at.missing), at.now)
    return Plan(status=status, steps=_cleaning(at), requeue_after=max(ends) - at.now)


def _stops_by(pod: Pod, at: Situation) -> datetime:
    """Return when the containers of a pod must have stopped, even if its node no longer reports."""
    own = at.spec.grace_seconds if pod.grace_seconds is None else pod.grace_seconds
    grace = timedelta(seconds=own) if pod.grace is None else pod.grace
    return at.now + grace + KUBELET_MARGIN - at.observed.stopping.get(pod.uid, timedelta())


def _backoff_end(at: Situation) -> datetime:
    """Return when the backoff is over.

    It counts from the recorded time of the failure, or from when this operator first observed the
    attempt, if that is over earlier: the clock may have been ahead when the failure was recorded.
    """
    end = failure_policy.backoff_end(at.spec, at.status)
    if end is None:
        return at.now
    wait = failure_policy.delay(at.spec.failure_policy.backoff, at.status.failures_in_a_row)
    return min(end, at.now + wait - at.observed.attempt_known_for)


def _cleaning(at: Situation) -> Steps:
    """Return the steps that delete old pods and an unwanted NetworkPolicy, and repair objects."""
    uid = at.observed.policy_uid
    wall = (DeletePolicy(uid),) if uid is not None and not at.spec.network.isolate else ()
    return (*old_pods(at), *steps(wall, *repairs.repairs(at)))


def old_pods(at: Situation) -> Steps:
    """Return the steps that end pods which are no replicas of the current attempt."""
    graces = {failure.attempt: grace_after(failure) for failure in at.status.ends}
    by_grace: defaultdict[int | None, list[Pod]] = defaultdict(list)
    for pod in at.old:
        by_grace[graces.get(pod.attempt)].append(pod)
    return tuple(one for grace, pods in by_grace.items() for one in endings(at, pods, grace))


def _objects(at: Situation) -> Iterator[Action]:
    """Yield the creations of missing objects that must exist before the pods."""
    if at.observed.service_uid is None:
        yield CreateService()
    if at.spec.network.isolate and at.observed.policy_uid is None:
        yield CreatePolicy()
    if not at.current:
        yield from _groups(at)
        if at.spec.checkpoint is not None and at.spec.checkpoint.claim_template is not None:
            yield CreateClaim()


def _groups(at: Situation) -> Iterator[Action]:
    """Yield the creation of the PodGroup, and the deletion of one of another gang scheduler.

    The gang scheduler cannot change between a failed attempt and the next one, so the restart does
    not spend requests on deletions.
    """
    if at.spec.scheduling.gang in WITH_POD_GROUP:
        yield CreatePodGroup()
    failed = at.status.ends[:1]
    if at.status.attempt > 0 and not (failed and failed[0].attempt == at.status.attempt - 1):
        yield from (
            DeletePodGroup(gang) for gang in WITH_POD_GROUP if gang != at.spec.scheduling.gang
        )


def creating(at: Situation) -> Plan | None:
    """Create the Service, then the pods, by a slow start.

    The last pod is created after all others. If another pod is missing later, the existence of the
    last pod proves that it had been created.
    """
    missing, objects = at.missing, tuple(_objects(at))
    if not missing and not objects:
        return None
    creations = tuple(CreatePod(at.status.attempt, index) for index in missing)
    last = creations[-1:] if missing[-1:] == [at.attempt.size - 1] else ()
    first = creations[: len(creations) - len(last)]
    resumed = at.status.holds(ConditionType.SUSPENDED) and at.status.attempt > 0
    event = (Announce(Reason.RESUMED, "The job is resumed"),) if resumed else _notices(at)
    status = report.progress(at.spec, at.observed, at.now)
    return Plan(status=status, steps=(*_cleaning(at), *steps(objects, first, last, event)))


def _notices(at: Situation) -> tuple[Action, ...]:
    """Return Events about what the spec says and may not mean, once per job."""
    if at.status.attempt > 0 or at.current:
        return ()
    return (*_uncertain(at), *_unshared(at))


def _unshared(at: Situation) -> tuple[Action, ...]:
    """Return an Event about checkpoints that replicas on several nodes cannot share."""
    given = at.spec.checkpoint
    told = None if given is None else given.unshared(at.attempt.size)
    return () if told is None else (Announce(Reason.CHECKPOINT_NOT_SHARED, told, warning=True),)


def _uncertain(at: Situation) -> tuple[Action, ...]:
    """Return an Event about devices that `processesPerReplica: auto` cannot count."""
    spec = at.spec
    if spec.processes_per_replica != AUTO or devices.count(spec.template):
        return ()
    if not any(True for _ in devices.uncounted(spec.template)):
        return ()
    told = (
        f"processesPerReplica auto is {at.attempt.processes}: the template has "
        f"{devices.found(spec.template)}; set processesPerReplica if a pod has several devices"
    )
    return (Announce(Reason.DEVICES_NOT_COUNTED, told),)


def running(at: Situation) -> Plan:
    """All pods and objects exist: update the status."""
    status = report.progress(at.spec, at.observed, at.now)
    return Plan(status=status, steps=_cleaning(at), requeue_after=repairs.due(at))
