"""How pods are ended: their coordinator is told before, and its pod is deleted last.

The coordinator of an attempt is in the pod of replica 0. If it answers that all ranks will stop by
themselves, it must live until they have: the other pods are deleted first. A pod that does not
answer, such as one without the runtime, is deleted with the others, so that scripts that stop by
themselves at the same SIGTERM are not torn apart.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta

from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import DeletePod, GiveNotice
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS, Situation, Steps, steps


def endings(at: Situation, pods: Iterable[Pod], grace: int | None) -> Steps:
    """Return the steps that end pods which are not being deleted yet.

    Args:
        at: the situation of the job.
        pods: the pods.
        grace: the grace period; None for that of each pod, within which its training may stop.
    """
    living = [pod for pod in pods if pod.delete_by is None]
    if grace is not None:
        return steps(tuple(DeletePod(pod.name, pod.uid, grace) for pod in living))
    untold = [pod for pod in living if _has_coordinator(pod) and pod.uid not in at.observed.notices]
    waiting = {pod.uid for pod in untold} | {pod.uid for pod in living if _must_wait(pod, at)}
    notices = tuple(_notice(pod, at) for pod in untold)
    gone = (pod for pod in living if pod.uid not in waiting)
    return steps(notices, tuple(DeletePod(pod.name, pod.uid, _grace(pod, at)) for pod in gone))


def due(at: Situation) -> Iterator[timedelta]:
    """Yield the times after which a pod of replica 0 need not wait for the others any more."""
    for pod in at.observed.pods:
        if pod.delete_by is None and _must_wait(pod, at):
            yield max((_time_left(one, at) for one in _others(pod, at)), default=timedelta())


def _has_coordinator(pod: Pod) -> bool:
    return pod.index == 0 and pod.running and pod.address is not None


def _must_wait(pod: Pod, at: Situation) -> bool:
    """Whether ranks of other pods need the coordinator in this one to stop together."""
    notice = at.observed.notices.get(pod.uid)
    if notice is None or not notice.is_taken or not _has_coordinator(pod):
        return False
    return any(_time_left(one, at) > timedelta() for one in _others(pod, at))


def _others(pod: Pod, at: Situation) -> Iterator[Pod]:
    """Yield the other pods of an attempt whose training still runs."""
    for one in at.observed.pods:
        runs = one.ending is None and not one.stopped
        if runs and one.attempt == pod.attempt and one.uid != pod.uid:
            yield one


def _time_left(pod: Pod, at: Situation) -> timedelta:
    """Return how long the training of a pod may go on, at the longest, until it is killed."""
    grace = timedelta(seconds=_usual(pod, at)) if pod.grace is None else pod.grace
    return grace - at.observed.stopping.get(pod.uid, timedelta())


def _usual(pod: Pod, at: Situation) -> int:
    return at.spec.grace_seconds if pod.grace_seconds is None else pod.grace_seconds


def _notice(pod: Pod, at: Situation) -> GiveNotice:
    """Return the notice for the coordinator in a pod; the first pod to be killed sets the time."""
    gang = (one for one in at.observed.pods if one.attempt == pod.attempt and one.ending is None)
    left = min(
        _usual(one, at) if one.delete_by is None else (one.delete_by - at.now).total_seconds()
        for one in gang
    )
    return GiveNotice(
        pod=pod.uid,
        attempt=pod.attempt,
        address=pod.address or "",
        port=at.spec.network.progress_port,
        seconds=max(1, math.floor(left)),
    )


def _grace(pod: Pod, at: Situation) -> int | None:
    """Return the grace period of a pod's deletion: what is left of its own since the notice."""
    notice, usual = at.observed.notices.get(pod.uid), _usual(pod, at)
    if notice is None or not notice.is_taken:
        return None
    left = max(math.ceil(usual - notice.ago.total_seconds()), FAILED_GANG_GRACE_SECONDS)
    return left if left < usual else None
