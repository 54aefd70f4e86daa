"""A cache of the specs of jobs, each parsed once per generation."""

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec

KEPT_SPECS = 1024


class Specs:
    """A least-recently-used cache of parsed specs, one per job, valid for one generation.

    Args:
        kept: the maximum number of specs.
    """

    def __init__(self, kept: int = KEPT_SPECS) -> None:
        self._kept = kept
        self._known: dict[str, JobSpec] = {}  # by uid, the most recently used one last

    def read(self, job: Manifest) -> JobSpec:
        """Parse a job, as `JobSpec.from_manifest` does."""
        metadata = job["metadata"]
        known = self._known.pop(metadata["uid"], None)
        if known is None or known.generation != metadata["generation"]:
            known = JobSpec.from_manifest(job)
        self._known[metadata["uid"]] = known
        if len(self._known) > self._kept:
            del self._known[next(iter(self._known))]
        return known

    def forget(self, uid: str) -> None:
        """Drop a job that is gone."""
        self._known.pop(uid, None)
