"""What has been seen of all jobs: fed by the watches and by the answers to our own writes.

Only facts are kept (`observe.Pod`), never a pod's whole manifest, so that a thousand jobs fit in
memory. An object replaces what is here only if it is newer: the answer to a write and the watch's
echo of older changes come in any order.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable

from acceleratedjob import api
from acceleratedjob.api import Manifest, View
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.observe import Pod, read_pod
from acceleratedjob.sections import MAX_REPLICAS

log = logging.getLogger(__name__)

# Of a job's metadata; the rest, with who manages which field, may be larger than the job.
_READ = (
    *("name", "namespace", "uid", "generation"),
    *("resourceVersion", "creationTimestamp", "deletionTimestamp"),
)


Owner = tuple[str, str]  # namespace and uid of a job


def owner(manifest: View) -> Owner | None:
    """The job that controls an object; None if none does.

    Who may create pods in one namespace can name a job of another one: that is not its owner.
    """
    uid = api.owner_uid(manifest)
    return None if uid is None else (manifest["metadata"]["namespace"], uid)


def _facts(manifest: View) -> Pod | None:
    """A pod's facts; None also of one that cannot be read, which must not stop all other jobs."""
    try:
        return read_pod(manifest)
    except Exception:
        metadata = manifest["metadata"]
        log.exception("%s/%s cannot be read: left out", metadata["namespace"], metadata["name"])
        return None


def version(manifest: View) -> int:
    """An object's resource version; the API server counts them up."""
    return int(manifest["metadata"].get("resourceVersion", 0))


class Cache:
    """Jobs by their uids, and what they have by their owner."""

    def __init__(self) -> None:
        self.jobs: dict[str, Manifest] = {}
        # kind -> its job -> uid of what a job has one of: its Service, its NetworkPolicy
        self._singles: defaultdict[str, dict[Owner, str]] = defaultdict(dict)
        self._pods: defaultdict[Owner, dict[str, tuple[int, Pod]]] = defaultdict(dict)
        self._lost: defaultdict[str, dict[str, Pod]] = defaultdict(dict)

    def pods(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that exist."""
        return tuple(pod for _, pod in self._pods.get(self._owner(uid), {}).values())

    def lost(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that were seen and are gone, as they were last."""
        return tuple(self._lost.get(uid, {}).values())

    def single(self, kind: str, uid: str) -> str | None:
        """The uid of what a job has one of; None if it is not there."""
        return self._singles[kind].get(self._owner(uid))

    def _owner(self, uid: str) -> Owner:
        """A job that is known, as what it has names it; nothing has one that is not known."""
        job = self.jobs.get(uid)
        return (job["metadata"]["namespace"] if job else "", uid)

    def keep_job(self, job: Manifest) -> None:
        """Store a job unless a newer one is known."""
        uid = job["metadata"]["uid"]
        known = self.jobs.get(uid)
        if known is None or version(known) <= version(job):
            metadata = {name: job["metadata"][name] for name in _READ if name in job["metadata"]}
            self.jobs[uid] = job | {"metadata": metadata}

    def forget(self, uid: str) -> None:
        """The job is gone; its objects are the garbage collector's."""
        self.jobs.pop(uid, None)
        self._lost.pop(uid, None)

    def forget_lost(self, uid: str, *, attempt: int) -> None:
        """Drop the memory of all pods but those of an attempt and of the next.

        Others are history, or are no job's: who may make pods can name and delete any number.
        """
        near = (attempt, attempt + 1)  # the next: another operator may have begun it
        kept = {
            pod.name: pod
            for pod in self.lost(uid)
            if pod.attempt in near and pod.index < MAX_REPLICAS
        }
        self._lost[uid] = kept

    def take(self, kind: str, change: Change) -> set[str]:
        """Store what a watch tells; return the uids of the jobs concerned."""
        match change:
            case Listed(objects):
                return self._listed(kind, objects)
            case Changed(manifest):
                return self.keep(kind, manifest)
            case Gone(manifest):
                return self._gone(kind, manifest)

    def keep(self, kind: str, manifest: Manifest) -> set[str]:
        """Store one object; the uid of its job, if it has one."""
        job = owner(manifest)
        if job is None:
            return set()
        if kind != "Pod":
            self._singles[kind][job] = manifest["metadata"]["uid"]
        elif not self._keep_pod(job, manifest):
            return set()
        return {job[1]}

    def _keep_pod(self, job: Owner, manifest: Manifest) -> bool:
        # What a creation answers has no status; the event of the same version says what it is.
        pod, new = _facts(manifest), version(manifest) - ("status" not in manifest)
        if pod is None:
            return False
        known = self._pods.get(job, {}).get(pod.name)
        gone = self._lost.get(job[1], {}).get(pod.name)
        if (known is not None and known[0] >= new) or (gone is not None and gone.uid == pod.uid):
            return False
        self._pods[job][pod.name] = (new, pod)
        return known is None or known[1] != pod

    def _gone(self, kind: str, manifest: Manifest) -> set[str]:
        job = owner(manifest)
        if job is None:
            return set()
        if kind != "Pod":
            if self._singles[kind].get(job) == manifest["metadata"]["uid"]:
                del self._singles[kind][job]
            return {job[1]}
        pod = _facts(manifest)
        if pod is not None:
            self._lose(job, pod)
        return {job[1]}

    def _lose(self, job: Owner, pod: Pod) -> None:
        known = self._pods[job].get(pod.name)
        if known is not None and known[1].uid == pod.uid:
            del self._pods[job][pod.name]
        if not self._pods[job]:
            del self._pods[job]
        if job == self._owner(job[1]):
            self._lost[job[1]][pod.name] = pod

    def _listed(self, kind: str, objects: Iterable[Manifest]) -> set[str]:
        """Take a whole list: what it does not have has gone unseen."""
        objects = tuple(objects)
        uids = {manifest["metadata"]["uid"] for manifest in objects}
        concerned = set()
        if kind != "Pod":
            known = self._singles[kind]
            stale = {job for job, uid in known.items() if uid not in uids}
            for job in stale:
                del known[job]
            concerned |= {uid for _, uid in stale}
        else:
            concerned |= self._lose_missing(uids)
        for manifest in objects:
            concerned |= self.keep(kind, manifest)
        return concerned

    def _lose_missing(self, uids: set[str]) -> set[str]:
        missing = [
            (job, pod)
            for job, pods in self._pods.items()
            for _, pod in pods.values()
            if pod.uid not in uids
        ]
        for job, pod in missing:
            self._lose(job, pod)
        return {uid for (_, uid), _ in missing}
