"""The jobs that are known, each as JSON text.

Python's garbage collector walks through all mappings and lists that there are, again and again, and
the event loop stands still meanwhile: for seconds, with the manifests of 10,000 jobs as objects.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from acceleratedjob.api import Manifest
from acceleratedjob.bounds import METADATA, bounded


@dataclass(frozen=True, slots=True)
class _Job:
    """What is read of one job, and what is asked for often."""

    namespace: str
    version: int
    phase: str | None
    text: str


class Jobs(Mapping[str, Manifest]):
    """Jobs by their uids; each is made from its text when it is asked for."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def keep(self, job: Manifest) -> None:
        """Store a job unless a newer one is known."""
        metadata = {name: job["metadata"][name] for name in METADATA if name in job["metadata"]}
        uid, new = metadata["uid"], int(metadata.get("resourceVersion", 0))
        known = self._jobs.get(uid)
        if known is None or known.version <= new:
            kept = bounded(job) | {"metadata": metadata}
            phase = (kept.get("status") or {}).get("phase")
            text = json.dumps(kept, default=str)  # YAML knows dates, which are texts to kubectl
            self._jobs[uid] = _Job(metadata["namespace"], new, phase, text)

    def forget(self, uid: str) -> None:
        """A job is gone."""
        self._jobs.pop(uid, None)

    def namespace(self, uid: str) -> str:
        """The namespace of a job; empty if it is not known."""
        known = self._jobs.get(uid)
        return "" if known is None else known.namespace

    def until(self, version: int) -> set[str]:
        """The uids of all jobs that are not newer than a list."""
        return {uid for uid, known in self._jobs.items() if known.version <= version}

    def phases(self) -> Counter[str | None]:
        """How many jobs are in which phase; None before they have one."""
        return Counter(known.phase for known in self._jobs.values())

    def __getitem__(self, uid: str) -> Manifest:
        """The job, for the caller alone."""
        job: Manifest = json.loads(self._jobs[uid].text)
        return job

    def __contains__(self, uid: object) -> bool:
        """Whether a job is known."""
        return uid in self._jobs

    def __iter__(self) -> Iterator[str]:
        """The uids."""
        return iter(self._jobs)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._jobs)
