"""What has been seen of all jobs: fed by the watches and by the answers to our own writes.

Only facts are kept (`observe.Pod`), never a pod's whole manifest, so that a thousand jobs fit in
memory. An object replaces what is here only if it is newer: the answer to a write and the watch's
echo of older changes come in any order.
"""

from collections import defaultdict
from collections.abc import Iterable

from acceleratedjob import api
from acceleratedjob.api import Manifest, View
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.observe import Pod, read_pod

# Of a job's metadata; the rest, with who manages which field, may be larger than the job.
_READ = (
    *("name", "namespace", "uid", "generation"),
    *("resourceVersion", "creationTimestamp", "deletionTimestamp"),
)


def version(manifest: View) -> int:
    """An object's resource version; the API server counts them up."""
    return int(manifest["metadata"].get("resourceVersion", 0))


class Cache:
    """Jobs and what they have, all by the uid of the job."""

    def __init__(self) -> None:
        self.jobs: dict[str, Manifest] = {}
        # kind -> uid of the job -> uid of what it has one of: its Service, its NetworkPolicy
        self.singles: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._pods: defaultdict[str, dict[str, tuple[int, Pod]]] = defaultdict(dict)
        self._lost: defaultdict[str, dict[str, Pod]] = defaultdict(dict)

    def pods(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that exist."""
        return tuple(pod for _, pod in self._pods.get(uid, {}).values())

    def lost(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that were seen and are gone, as they were last."""
        return tuple(self._lost.get(uid, {}).values())

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

    def forget_lost(self, uid: str, *, before: int) -> None:
        """Drop the memory of attempts that are history."""
        kept = {pod.name: pod for pod in self.lost(uid) if pod.attempt >= before}
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
        uid = api.owner_uid(manifest)
        if uid is None:
            return set()
        if kind != "Pod":
            self.singles[kind][uid] = manifest["metadata"]["uid"]
        elif not self._keep_pod(uid, manifest):
            return set()
        return {uid}

    def _keep_pod(self, uid: str, manifest: Manifest) -> bool:
        # What a creation answers has no status; the event of the same version says what it is.
        pod, new = read_pod(manifest), version(manifest) - ("status" not in manifest)
        if pod is None:
            return False
        known = self._pods.get(uid, {}).get(pod.name)
        gone = self._lost.get(uid, {}).get(pod.name)
        if (known is not None and known[0] >= new) or (gone is not None and gone.uid == pod.uid):
            return False
        self._pods[uid][pod.name] = (new, pod)
        return known is None or known[1] != pod

    def _gone(self, kind: str, manifest: Manifest) -> set[str]:
        uid = api.owner_uid(manifest)
        if uid is None:
            return set()
        if kind != "Pod":
            if self.singles[kind].get(uid) == manifest["metadata"]["uid"]:
                del self.singles[kind][uid]
            return {uid}
        pod = read_pod(manifest)
        if pod is not None:
            self._lose(uid, pod)
        return {uid}

    def _lose(self, uid: str, pod: Pod) -> None:
        known = self._pods[uid].get(pod.name)
        if known is not None and known[1].uid == pod.uid:
            del self._pods[uid][pod.name]
        if not self._pods[uid]:
            del self._pods[uid]
        if uid in self.jobs:
            self._lost[uid][pod.name] = pod

    def _listed(self, kind: str, objects: Iterable[Manifest]) -> set[str]:
        """Take a whole list: what it does not have has gone unseen."""
        objects = tuple(objects)
        uids = {manifest["metadata"]["uid"] for manifest in objects}
        concerned = set()
        if kind != "Pod":
            known = self.singles[kind]
            stale = {owner for owner, uid in known.items() if uid not in uids}
            for owner in stale:
                del known[owner]
            concerned |= stale
        else:
            concerned |= self._lose_missing(uids)
        for manifest in objects:
            concerned |= self.keep(kind, manifest)
        return concerned

    def _lose_missing(self, uids: set[str]) -> set[str]:
        missing = [
            (owner, pod)
            for owner, pods in self._pods.items()
            for _, pod in pods.values()
            if pod.uid not in uids
        ]
        for owner, pod in missing:
            self._lose(owner, pod)
        return {owner for owner, _ in missing}
