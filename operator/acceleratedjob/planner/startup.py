"""Stages that bring an attempt up."""

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
    deletions,
    grace_after,
    steps,
)


def waiting(at: Situation) -> Plan | None:
    """Nothing starts while old pods may still run, nor before the backoff is over.

    What was refused waits until it is tried again, also a Service alone.
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
    """When a pod's containers have stopped even if its node is gone and tells nothing."""
    grace = timedelta(seconds=at.spec.grace_seconds) if pod.grace is None else pod.grace
    return at.now + grace + KUBELET_MARGIN - at.observed.stopping.get(pod.uid, timedelta())


def _backoff_end(at: Situation) -> datetime:
    """When the backoff is over: by the time of the failure, or as the attempt is known for so long.

    The latter holds also where a clock was ahead when the failure was recorded.
    """
    end = failure_policy.backoff_end(at.spec, at.status)
    if end is None:
        return at.now
    wait = failure_policy.delay(at.spec.failure_policy.backoff, at.status.failures_in_a_row)
    return min(end, at.now + wait - at.observed.attempt_known_for)


def _cleaning(at: Situation) -> Steps:
    """Old pods go: those of a failed attempt soon, those that may save something in their time."""
    uid = at.observed.policy_uid
    wall = (DeletePolicy(uid),) if uid is not None and not at.spec.network.isolate else ()
    return steps(old_pods(at), wall, *repairs.repairs(at))


def old_pods(at: Situation) -> tuple[Action, ...]:
    """Deletions of pods that are not of the current attempt's replicas."""
    graces = {failure.attempt: grace_after(failure) for failure in at.status.failures}
    return tuple(one for pod in at.old for one in deletions([pod], graces.get(pod.attempt)))


def _objects(at: Situation) -> Iterator[Action]:
    """What there must be before pods."""
    if at.observed.service_uid is None:
        yield CreateService()
    if at.spec.network.isolate and at.observed.policy_uid is None:
        yield CreatePolicy()
    if not at.current:
        yield from _groups(at)


def _groups(at: Situation) -> Iterator[Action]:
    """The PodGroup before an attempt's first pod, in the place of one of another gang.

    The spec cannot change between a failed attempt and the next one, where no time is lost on it.
    """
    if at.spec.scheduling.gang in WITH_POD_GROUP:
        yield CreatePodGroup()
    failed = at.status.failures[:1]
    if at.status.attempt > 0 and not (failed and failed[0].attempt == at.status.attempt - 1):
        yield from (
            DeletePodGroup(gang) for gang in WITH_POD_GROUP if gang != at.spec.scheduling.gang
        )


def creating(at: Situation) -> Plan | None:
    """The Service, then the pods, which are created by a slow start.

    The last is made when all others are: it says that they were, if one of them is gone.
    """
    missing, objects = at.missing, tuple(_objects(at))
    if not missing and not objects:
        return None
    creations = tuple(CreatePod(at.status.attempt, index) for index in missing)
    last = creations[-1:] if missing[-1:] == [at.attempt.size - 1] else ()
    first = creations[: len(creations) - len(last)]
    resumed = at.status.holds(ConditionType.SUSPENDED) and at.status.attempt > 0
    event = (Announce(Reason.RESUMED, "The job is resumed"),) if resumed else _uncertain(at)
    status = report.progress(at.spec, at.observed, at.now)
    return Plan(status=status, steps=(*_cleaning(at), *steps(objects, first, last, event)))


def _uncertain(at: Situation) -> tuple[Action, ...]:
    """What `processesPerReplica: auto` could not count, told once, when the job begins."""
    spec, is_new = at.spec, at.status.attempt == 0 and not at.current
    if not is_new or spec.processes_per_replica != AUTO or devices.count(spec.template):
        return ()
    if not any(True for _ in devices.uncounted(spec.template)):
        return ()
    told = (
        f"processesPerReplica auto is {at.attempt.processes}: there is "
        f"{devices.found(spec.template)}; set it if they are several"
    )
    return (Announce(Reason.DEVICES_NOT_COUNTED, told),)


def running(at: Situation) -> Plan:
    """Nothing to do but to tell."""
    status = report.progress(at.spec, at.observed, at.now)
    return Plan(status=status, steps=_cleaning(at), requeue_after=repairs.due(at))
