"""From a job's manifest to its plan, whether or not the job can be run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from acceleratedjob import plan as planning
from acceleratedjob.api import Manifest
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed
from acceleratedjob.situation import Plan, of_attempt
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status

KEPT_SPECS = 1024


class Specs:
    """The specs of stored jobs, each read once for each generation, as long as it is asked for.

    Args:
        kept: how many; of more jobs those that were not asked for longest are read again.
    """

    def __init__(self, kept: int = KEPT_SPECS) -> None:
        self._kept = kept
        self._known: dict[str, JobSpec] = {}  # the one that was asked for last is the last

    def read(self, job: Manifest) -> JobSpec:
        """As `JobSpec.from_manifest`."""
        metadata = job["metadata"]
        known = self._known.pop(metadata["uid"], None)
        if known is None or known.generation != metadata["generation"]:
            known = JobSpec.from_manifest(job)
        self._known[metadata["uid"]] = known
        if len(self._known) > self._kept:
            del self._known[next(iter(self._known))]
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
    refused: InvalidSpec | None = None
    try:
        spec = read(job)
    except InvalidSpec as error:
        refused, spec = error, _as_made(JobSpec.from_refused(job), observed.status)
    made = planning.plan(spec, observed, now, refused)
    return of_attempt(spec, made.status), made


def _as_made(spec: JobSpec, status: Status) -> JobSpec:
    """What can be read of a job, with what its status says that its attempt is made from."""
    made_from = (status.spec_hash,) if status.spec_hash else ()
    processes = status.processes_per_replica or spec.processes_per_replica
    return replace(spec, fingerprints=made_from, processes_per_replica=processes)
