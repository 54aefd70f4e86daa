"""From a job's manifest to its plan, whether or not the job can be run."""

from collections.abc import Callable
from datetime import datetime

from acceleratedjob import plan as planning
from acceleratedjob.api import Manifest
from acceleratedjob.ending import refuse
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed
from acceleratedjob.situation import Plan, of_attempt
from acceleratedjob.spec import JobSpec


class Specs:
    """The specs of stored jobs, each read once for each generation."""

    def __init__(self) -> None:
        self._known: dict[str, JobSpec] = {}

    def read(self, job: Manifest) -> JobSpec:
        """As `JobSpec.from_manifest`."""
        metadata = job["metadata"]
        known = self._known.get(metadata["uid"])
        if known is None or known.generation != metadata["generation"]:
            known = self._known[metadata["uid"]] = JobSpec.from_manifest(job)
        return known

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._known.pop(uid, None)


def decide(
    job: Manifest,
    observed: Observed,
    now: datetime,
    read: Callable[[Manifest], JobSpec] = JobSpec.from_manifest,
) -> tuple[JobSpec, Plan]:
    """What is wanted of a job, and what to do for it."""
    try:
        spec = read(job)
    except InvalidSpec as error:
        bare = _identity(job)
        if observed.status.finished:
            return bare, planning.plan(bare, observed, now)
        return bare, refuse(observed, error, bare.generation, now)
    made = planning.plan(spec, observed, now)
    return of_attempt(spec, made.status), made


def _identity(job: Manifest) -> JobSpec:
    """Who a job is that cannot be run: enough to delete what it has, and the job in its time."""
    metadata, spec = job["metadata"], job.get("spec")
    ttl = spec.get("ttlSecondsAfterFinished") if isinstance(spec, dict) else None
    return JobSpec(
        template={},
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        ttl_seconds_after_finished=ttl if type(ttl) is int else None,
    )
