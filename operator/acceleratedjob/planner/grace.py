"""The grace period that a stop needs: to the next boundary, and for a checkpoint.

The pods of an attempt have the one of their template. Where the template leaves it to Kubernetes,
the next attempt gets as much as the last checkpoint has shown to be needed.
"""

import math
from dataclasses import replace

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Condition, Status, condition
from acceleratedjob.api.training import STORAGE
from acceleratedjob.observe.observed import Observed

MARGIN_SECONDS = 5.0  # to tell the processes, and for the launcher to end what is left
_PRECISION = 10  # seconds; else the number would change with every checkpoint
MOST_SECONDS = 1800  # what a pod tells is not trusted
_FIELD = "terminationGracePeriodSeconds"


def needed(status: Status) -> int | None:
    """Return the grace period that a stop needs, in seconds; None if that is not known."""
    saved, progress = status.checkpoint, status.progress
    if saved is None or saved.seconds is None or saved.tier != STORAGE:
        return None
    step = 0.0 if progress is None else progress.step_seconds or 0.0
    seconds = min(step + saved.seconds + MARGIN_SECONDS, MOST_SECONDS)
    return _PRECISION * math.ceil(seconds / _PRECISION)


def raised(spec: JobSpec, status: Status) -> JobSpec:
    """Return the spec for the pods of an attempt, with the grace period that its stop needs.

    What the template says is never changed.
    """
    seconds, pod = needed(status), spec.template["spec"]
    if seconds is None or seconds <= spec.grace_seconds or pod.get(_FIELD) is not None:
        return spec
    return replace(spec, template={**spec.template, "spec": {**pod, _FIELD: seconds}})


def too_short(spec: JobSpec, observed: Observed, status: Status) -> Condition | None:
    """Return the condition GraceTooShort; None if it need not change.

    Args:
        spec: the spec of the job.
        observed: the observed state, reduced to the attempt by `Observed.members`.
        status: the status of the job, with what its processes have told.
    """
    seconds, kind = needed(status), ConditionType.GRACE_TOO_SHORT
    own = (one.grace_seconds for one in observed.pods if one.grace_seconds is not None)
    given = min(own, default=spec.grace_seconds)
    if seconds is not None and seconds > given:
        is_default = spec.template["spec"].get(_FIELD) is None
        instead = (
            f"the pods of the next attempt have {seconds} s"
            if is_default
            else f"set {_FIELD} in spec.template to {seconds}"
        )
        message = (
            f"a stop needs about {seconds} s, as the last checkpoint shows, but the grace period "
            f"of the pods is {given} s: what was trained since a checkpoint is lost; {instead}"
        )
        return condition(kind, True, Reason.GRACE_TOO_SHORT, message, spec.generation)
    if status.holds(kind):
        return condition(kind, False, Reason.RECOVERED, "", spec.generation)
    return None
