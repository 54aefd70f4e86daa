"""`acceleratedjob why`: explains the status of a job."""

import signal
import sys
from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api import devices
from acceleratedjob.api.names import ConditionType, Phase, View
from acceleratedjob.api.spec import AUTO, JobSpec
from acceleratedjob.api.status import Condition, Failure, Pending, Status
from acceleratedjob.api.times import age, parse_time, utc_now
from acceleratedjob.api.training import STORAGE
from acceleratedjob.commands import screen
from acceleratedjob.commands.advice import advise
from acceleratedjob.commands.lost_time import lost_time
from acceleratedjob.commands.session import Session, exit_code
from acceleratedjob.commands.text import ending, wrapped
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.manifests.in_place import restarts as restarts_in_place
from acceleratedjob.observe.endings import SIGNAL_BASE
from acceleratedjob.planner.failure_policy import backoff_end
from acceleratedjob.terminal import lines, say

# type of a condition -> the status in which it is a warning
_WARNINGS = {
    ConditionType.HANGING: "True",
    ConditionType.STRAGGLING: "True",
    ConditionType.DIVERGED: "True",
    ConditionType.GRACE_TOO_SHORT: "True",
    ConditionType.CHECKPOINT_FRESH: "False",
}
SHOWN_FAILURES = 3
TRACEBACK_LINES = 12
STOPPED = SIGNAL_BASE + signal.SIGTERM  # the exit code of a process that was asked to stop
# phase -> the condition that changed with it; for other phases, the condition Ready
_SINCE: dict[str, ConditionType] = {
    Phase.SUSPENDED: ConditionType.SUSPENDED,
    Phase.SUCCEEDED: ConditionType.COMPLETE,
    Phase.FAILED: ConditionType.FAILED,
}


def why(job: View, now: datetime) -> list[str]:
    """Return the lines that explain a job."""
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    if status.phase is None:
        made = parse_time(job["metadata"]["creationTimestamp"])
        return [
            f"{name} has no status, {age((now - made).total_seconds())} after its creation.",
            "",
            "Next",
            (
                "  - No operator manages it. Check that an operator runs and serves this namespace "
                "(`--namespace`), and that `spec.managedBy` names no other controller."
            ),
            "  - If the status cannot be written, `kubectl describe` shows an Event that says why.",
        ]
    sections = (
        ("", [_headline(job, status, now)]),
        ("Waits", [line for entry in status.pending for line in _waits(entry, now)]),
        ("Failures", list(_failures(status, now))),
        ("Warnings", [f"  {one.type}: {one.message}" for one in _warnings(status)]),
        ("Time", list(lost_time(status, now))),
        ("Decided", list(_decided(job, status, now))),
        ("Next", [f"  - {one}" for one in _next(status)]),
    )
    shown = [[title, *lines] if title else lines for title, lines in sections if lines]
    return [one for section in shown for line in (*section, "") for one in _printed(line)][:-1]


async def print_why(session: Session) -> int:
    """Print the lines that explain a job, and return the exit code: whether it has failed."""
    job = await session.read()
    say(*wrapped(why(job, utc_now()), width=screen.terminal_width(sys.stdout)))
    return exit_code(job)


def _printed(line: str) -> list[str]:
    """Return the lines to print; continued lines get a prefix, because their text is untrusted."""
    return lines(line, "    | ")


def _headline(job: View, status: Status, now: datetime) -> str:
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    began = status.condition(_SINCE.get(str(status.phase), ConditionType.READY))
    since = f", for {_ago(began.last_transition_time, now)}" if began else ""
    up = f", {status.ready_ratio} replicas up" if status.ready_ratio else ""
    return f"{name} in {namespace}: {status.phase}{since}; attempt {status.attempt}{up}"


def _ago(time: str, now: datetime) -> str:
    return age((now - parse_time(time)).total_seconds())


def _waits(entry: Pending, now: datetime) -> Iterator[str]:
    pods = "1 pod" if entry.count == 1 else f"{entry.count} pods"
    since = f", for {_ago(entry.since, now)}" if entry.since else ""
    yield f"  {pods}: {entry.reason}{since}"
    if entry.message:
        yield f"    {entry.message}"
    if entry.next_try:
        seconds = (parse_time(entry.next_try) - now).total_seconds()
        yield f"    next try in {age(seconds)}" if seconds > 0 else "    tried again now"


def _warnings(status: Status) -> list[Condition]:
    """Return the conditions about the training that a person must see."""
    if status.finished:
        return []
    found = ((status.condition(type_), bad) for type_, bad in _WARNINGS.items())
    return [one for one, bad in found if one is not None and one.status == bad]


def _failures(status: Status, now: datetime) -> Iterator[str]:
    for failure in status.failures[:SHOWN_FAILURES]:
        yield from _failure(failure, now)
    more = len(status.failures) - SHOWN_FAILURES
    if more > 0:
        yield f"  and {more} earlier ones: see kubectl get aj -o yaml"


def _failure(failure: Failure, now: datetime) -> Iterator[str]:
    """Yield the lines about a failure."""
    rank = f", rank {failure.rank}" if failure.rank is not None else ""
    node = f" on node {failure.node}" if failure.node else ""
    step = f", at step {failure.step}" if failure.step is not None else ""
    who = f"replica {failure.replica}{rank} (pod {failure.pod}{node})"
    life = f", life {failure.life}" if failure.life is not None else ""
    yield f"  attempt {failure.attempt}{life}, {_ago(failure.time, now)} ago: {who}{step}"
    how = ending(failure.exit_code, failure.signal)
    if failure.exit_code == STOPPED and failure.step is not None and failure.exception is None:
        how = f"{how}, stopped on request, with a checkpoint of step {failure.step}"
    yield f"    {failure.reason}, {how}" if how else f"    {failure.reason}"
    yield from (f"    {line}" for line in failure.message.splitlines())
    for line in (failure.traceback or "").rstrip().splitlines()[-TRACEBACK_LINES:]:
        yield f"    | {line}"
    if failure.victims:
        others = "1 other replica" if failure.victims == 1 else f"{failure.victims} others"
        yield f"    {others} had also failed by then, most likely as a result"


def _held(status: Status) -> list[Condition]:
    """Return the conditions that explain a job, without Stalled if it only repeats Failed."""
    types = [ConditionType.FAILED, ConditionType.COMPLETE]
    types += [] if status.finished else [ConditionType.STALLED]
    types.append(ConditionType.SUSPENDED)
    found = (status.condition(type_) for type_ in types)
    return [one for one in found if one is not None and one.status == "True"]


def _decided(job: View, status: Status, now: datetime) -> Iterator[str]:
    """Yield the lines about the decisions of the operator."""
    for found in _held(status):
        yield f"  {found.reason}: {found.message}"
    if status.finished:
        return
    if status.terminating:
        yield f"  pods that are still terminating: {status.terminating}"
    try:
        spec = JobSpec.from_manifest(job)
    except InvalidSpec:  # a condition reports it
        return
    yield from _going_on(spec, status, now)


def _going_on(spec: JobSpec, status: Status, now: datetime) -> Iterator[str]:
    if spec.processes_per_replica == AUTO and devices.may_be(spec.template):
        yield f"  processesPerReplica auto is {spec.processes}: {devices.found(spec.template)}"
    if status.ready_time is not None or status.failures:
        yield from _cost(spec, status, now)
    if status.ends:
        limit = spec.failure_policy.max_restarts
        yield f"  counted restarts: {status.restarts} of {limit}"
    if status.restarts_in_place:
        most = restarts_in_place(spec)
        yield f"  restarts in place: {status.restarts_in_place}, at most {most} in each attempt"
    end = backoff_end(spec, status)
    if end is not None and end > now and not status.replicas:
        yield f"  the next attempt starts in {age((end - now).total_seconds())} (backoff)"


def _cost(spec: JobSpec, status: Status, now: datetime) -> Iterator[str]:
    """Yield what a restart costs."""
    given = spec.checkpoint
    if given is None:
        up = (
            "" if status.ready_time is None else f", which is up for {_ago(status.ready_time, now)}"
        )
        yield (
            "  no spec.checkpoint: unless the script saves and loads checkpoints by itself, a "
            f"restart repeats the whole training of this attempt{up}"
        )
        return
    yield (
        f"  checkpoints: {given.cadence}, in {given.address(spec.name, spec.uid)}; a restart "
        f"repeats {_repeated(status)}{'' if status.checkpoint else ', if the script uses epochs()'}"
    )
    told = given.unshared(spec.replicas)
    if told is not None:
        yield f"  {told}"


def _repeated(status: Status) -> str:
    """Return what a restart repeats: the steps since the newest checkpoint on storage."""
    saved, told = status.checkpoint, status.progress
    if told is None or told.step is None:
        return "the steps since the newest one"
    if saved is None or saved.tier != STORAGE:
        return f"all {told.step} steps, because none is complete on storage"
    done = max(told.step, saved.step)  # what is told is the newest of each, not of one time
    return f"{done - saved.step} of {done} steps, those since the newest one"


def _next(status: Status) -> list[str]:
    """Return what the user can do, without duplicates, the most urgent advice first."""
    found = [advise(entry.reason) for entry in status.pending]
    found += [advise(one.reason) for one in _warnings(status)]
    if not status.holds(ConditionType.COMPLETE):
        found += [advise(one.reason, one.exception) for one in status.failures[:1]]
        found += [advise(one.reason) for one in _held(status)[:1]]
    return list(dict.fromkeys(advice for advice in found if advice))
