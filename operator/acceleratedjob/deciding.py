"""From a job's manifest to its plan, whether or not the job can be run."""

from dataclasses import replace
from datetime import datetime

from acceleratedjob import plan as planning
from acceleratedjob.api import Manifest
from acceleratedjob.ending import refuse
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed
from acceleratedjob.situation import Plan
from acceleratedjob.spec import JobSpec


def decide(job: Manifest, observed: Observed, now: datetime) -> tuple[JobSpec, Plan]:
    """What is wanted of a job, and what to do for it."""
    try:
        spec = JobSpec.from_manifest(job)
    except InvalidSpec as error:
        bare = _identity(job)
        if observed.status.finished:
            return bare, planning.plan(bare, observed, now)
        return bare, refuse(observed, error, bare.generation, now)
    made = planning.plan(spec, observed, now)
    return replace(spec, attempt_size=made.status.size), made


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
