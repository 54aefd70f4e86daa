"""The known jobs, each stored as JSON text.

Python's garbage collector repeatedly visits all dicts and lists, and blocks the event loop in the
meantime: for seconds, if the manifests of 10,000 jobs were stored as objects.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from acceleratedjob.api.bounds import METADATA, bounded
from acceleratedjob.api.names import Manifest


@dataclass(frozen=True, slots=True)
class _Job:
    """One job, with the fields that are needed often."""

    namespace: str
    version: int
    phase: str | None
    text: str


class Jobs(Mapping[str, Manifest]):
    """Jobs by uid; a manifest is decoded when it is read."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def keep(self, job: Manifest) -> None:
        """Store a job unless a newer version of it is stored."""
        metadata = {name: job["metadata"][name] for name in METADATA if name in job["metadata"]}
        uid, new = metadata["uid"], int(metadata.get("resourceVersion", 0))
        known = self._jobs.get(uid)
        if known is None or known.version <= new:
            kept = bounded(job) | {"metadata": metadata}
            phase = (kept.get("status") or {}).get("phase")
            text = json.dumps(kept, default=str)  # YAML has dates; kubectl reads them as strings
            self._jobs[uid] = _Job(metadata["namespace"], new, phase, text)

    def forget(self, uid: str) -> None:
        """Drop a job that is gone."""
        self._jobs.pop(uid, None)

    def namespace(self, uid: str) -> str:
        """Return the namespace of a job; empty if the job is unknown."""
        known = self._jobs.get(uid)
        return "" if known is None else known.namespace

    def until(self, version: int) -> set[str]:
        """Return the uids of all jobs whose resource version is at most `version`."""
        return {uid for uid, known in self._jobs.items() if known.version <= version}

    def phases(self) -> Counter[str | None]:
        """Return the number of jobs by phase; None stands for jobs without a phase."""
        return Counter(known.phase for known in self._jobs.values())

    def __getitem__(self, uid: str) -> Manifest:
        """Return the manifest of a job, a new object for each call."""
        job: Manifest = json.loads(self._jobs[uid].text)
        return job

    def __contains__(self, uid: object) -> bool:
        """Whether a job is known."""
        return uid in self._jobs

    def __iter__(self) -> Iterator[str]:
        """Iterate over the uids."""
        return iter(self._jobs)

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self._jobs)
