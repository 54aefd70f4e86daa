"""For how long pods have been seen to be deleted, by a clock that nobody sets.

A pod whose node is gone is never said to have stopped. When it must have is counted from when its
deletion was first seen here: the API server's clock, which has stamped it, may be far behind ours.
An operator that starts counts anew, which only waits longer.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from acceleratedjob.observe import Pod


class Stopping:
    """What was seen of all jobs' pods."""

    def __init__(self) -> None:
        self._since: dict[str, dict[str, float]] = {}

    def note(self, job: str, pods: Iterable[Pod], seconds: float) -> Mapping[str, timedelta]:
        """Take a look at a job's pods in.

        Args:
            job: its uid.
            pods: all that exist.
            seconds: now, on a clock that never goes back.

        Returns:
            For how long each that is being deleted has been so, by the pod's uid.
        """
        known = self._since.get(job, {})
        now = {pod.uid: known.get(pod.uid, seconds) for pod in pods if pod.delete_by is not None}
        self.forget(job)
        if now:
            self._since[job] = now
        return {uid: timedelta(seconds=seconds - since) for uid, since in now.items()}

    def forget(self, job: str) -> None:
        """The job is gone."""
        self._since.pop(job, None)
