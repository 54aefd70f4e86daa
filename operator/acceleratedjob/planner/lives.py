"""Restarts in place: the processes of all pods of an attempt begin another life in their pods.

The launchers of the pods agree on it; the coordinator tells it afterwards. A pod that lies can
spoil the numbers of its own job only, by at most MAX_IN_PLACE for each attempt.
"""

import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from acceleratedjob.api.names import Reason, pod_name
from acceleratedjob.api.sections import MAX_IN_PLACE
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Failure, Status, shortened
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.observe.endings import SIGNAL_BASE
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.progress import LifeFailure, Progress
from acceleratedjob.observe.termination import HANGS

_LARGEST = 2**31 - 1  # that the status can store
_STOPPED = SIGNAL_BASE + signal.SIGTERM
_ERROR = "Error"  # the kubelet's reason for a container that has failed


def counted(
    spec: JobSpec, status: Status, told: Progress | None, pods: Iterable[Pod], now: datetime
) -> Status:
    """Return the status with the lives that have begun since, and what has ended those before.

    Args:
        spec: the spec of the job.
        status: the status of the attempt.
        told: the answer; None if there is none. One of another attempt is ignored.
        pods: the pods of the job.
        now: the current time.
    """
    if told is None or told.attempt != status.attempt:
        return status
    life = min(told.life, MAX_IN_PLACE)
    if life <= status.life:
        return status
    ended = {one.life: one for one in told.failures if status.life <= one.life < life}
    nodes = {pod.index: pod.node for pod in pods if pod.attempt == status.attempt}
    entries = [
        _entry(spec, status, ended[number], nodes, now) for number in sorted(ended, reverse=True)
    ]
    total = min(status.restarts_in_place + life - status.life, _LARGEST)
    return replace(status.with_failures(*entries), life=life, restarts_in_place=total)


def news(old: Status, new: Status) -> Iterator[str]:
    """Yield a sentence for each life that has begun, the oldest first."""
    found = [one for one in new.failures if one.life is not None and one not in old.failures]
    for one in reversed(found):
        node = f" on node {one.node}" if one.node else ""
        step = f", at step {one.step}" if one.step is not None else ""
        who = f"Replica {one.replica} (pod {one.pod}{node}) {one.message}{step}"
        yield f"{who}; life {(one.life or 0) + 1} of attempt {one.attempt} begins in the same pods"
    if new.restarts_in_place > old.restarts_in_place and not found:
        count = new.restarts_in_place - old.restarts_in_place
        yield f"Lives that have begun in the pods of attempt {old.attempt}: {count}"


def _entry(
    spec: JobSpec,
    status: Status,
    told: LifeFailure,
    nodes: dict[int, str | None],
    now: datetime,
) -> Failure:
    """Return the entry for the status; a rank that cannot be is left out."""
    processes = status.processes_per_replica or spec.processes
    is_known = told.rank < (status.world_size or 0)
    replica = told.rank // processes if is_known else 0
    hung = told.exception == HANGS
    code = told.exit_code if told.signal is None else SIGNAL_BASE + told.signal
    return Failure(
        attempt=status.attempt,
        life=told.life,
        replica=replica,
        rank=told.rank if is_known else None,
        pod=pod_name(spec.name, status.attempt, replica),
        node=nodes.get(replica),
        reason=str(Reason.HANG) if hung else _ERROR,
        time=format_time(min(parse_time(told.time), now)),
        message=shortened(_message(told)),
        exit_code=None if hung else _stored(code),
        signal=None if hung else _stored(told.signal),
        exception=told.exception or None,
        step=told.step,
    )


def _stored(number: int | None) -> int | None:
    return None if number is None else min(number, _LARGEST)


def _message(told: LifeFailure) -> str:
    """Return how the process ended, in words whose subject is the replica."""
    if told.exception == HANGS:
        return f"has stalled: {told.message}"
    if told.exit_code == _STOPPED and not told.exception:
        return "stopped on request, with a checkpoint"
    how = f"exited with code {told.exit_code}"
    if told.signal is not None:
        how = f"was terminated by signal {told.signal}"
    said = ": ".join(filter(None, (told.exception, told.message)))
    return f"{how}: {said}" if said else how
