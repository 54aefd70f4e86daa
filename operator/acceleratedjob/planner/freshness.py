"""The condition CheckpointFresh: whether little would be lost if the pods were taken away now."""

from datetime import datetime

from acceleratedjob.api.checkpoint import Checkpoint as Wish
from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Condition, Status, condition
from acceleratedjob.api.times import later, parse_time
from acceleratedjob.api.training import STORAGE, Checkpoint, Progress

# Without a cadence a checkpoint follows the other as long as the pauses cost little time: at least
# once a minute, or in ten times what the last one took.
CONTINUOUS_SECONDS = 60.0
_CONTINUOUS_SAVES = 10
_INTERVALS = 2  # a checkpoint that is older than so many intervals is not fresh


def freshness(spec: JobSpec, status: Status, now: datetime) -> Condition | None:
    """Return the condition of a running job; None if it writes no checkpoints, or is not up.

    Args:
        spec: the spec of the job.
        status: the status of the job, with what its processes have told.
        now: the current time.
    """
    stale_at = becomes_stale(spec, status)
    if spec.checkpoint is None or stale_at is None:
        return None
    saved, cadence, is_fresh = _stored(status), spec.checkpoint.cadence, now < stale_at
    generation, kind = spec.generation, ConditionType.CHECKPOINT_FRESH
    if saved is None:
        message = f"no checkpoint is on storage yet; they are written {cadence}"
        return condition(kind, False, Reason.NO_CHECKPOINT, message, generation)
    reason = Reason.RECENT if is_fresh else Reason.OVERDUE
    message = f"the newest checkpoint, of step {saved.step}, was complete at {saved.time}"
    return condition(kind, is_fresh, reason, f"{message}; they are written {cadence}", generation)


def becomes_stale(spec: JobSpec, status: Status) -> datetime | None:
    """Return when the newest checkpoint is fresh no longer; None if the job is not up.

    An attempt first has to start its processes and to load: it counts from when its pods were up.
    """
    if spec.checkpoint is None or status.ready_time is None or status.finished:
        return None
    saved, begins = _stored(status), [parse_time(status.ready_time)]
    begins += [] if saved is None else [parse_time(saved.time)]
    seconds = _INTERVALS * _interval(spec.checkpoint, saved, status.progress or Progress())
    return later(max(begins), seconds)


def _stored(status: Status) -> Checkpoint | None:
    saved = status.checkpoint
    return saved if saved is not None and saved.tier == STORAGE else None


def _interval(wish: Wish, saved: Checkpoint | None, progress: Progress) -> float:
    """Return the expected time between two checkpoints, in seconds."""
    took = 0.0 if saved is None else saved.seconds or 0.0
    if wish.every_seconds is not None:
        return wish.every_seconds + took
    if wish.every_steps is not None and progress.step_seconds is not None:
        return wish.every_steps * progress.step_seconds + took
    return max(CONTINUOUS_SECONDS, _CONTINUOUS_SAVES * took)
