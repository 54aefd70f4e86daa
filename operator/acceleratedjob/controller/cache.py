"""The last observed state of all jobs, from watches and from responses to our own writes.

Lists, events and responses arrive in any order, so resource versions decide: an object replaces the
cached one only if it is newer, and a list removes only objects that are not newer than the list.
Controllers of client-go use expectations for this purpose.
"""

from collections import defaultdict

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.sections import MAX_REPLICAS
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.controller.cached_object import Known, Owner, Pages, owner, read, version
from acceleratedjob.controller.job_store import Jobs
from acceleratedjob.observe.pod import Pod, Single


class Cache:
    """Jobs by uid, and their objects by owner."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        # kind -> job -> the Service or NetworkPolicy of the job
        self._singles: defaultdict[str, dict[Owner, Known]] = defaultdict(dict)
        self._pods: defaultdict[Owner, dict[str, Known]] = defaultdict(dict)  # by name
        self._lost: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._told: defaultdict[str, int] = defaultdict(int)  # kind -> newest version received
        self._pages: dict[tuple[str, str], Pages] = {}  # by kind and source

    def pods(self, uid: str) -> tuple[Pod, ...]:
        """Return the pods of a job that exist."""
        known = self._pods.get(self._owner(uid), {}).values()
        return tuple(one.pod for one in known if one.pod is not None)

    def lost(self, uid: str) -> tuple[Pod, ...]:
        """Return the last state of pods of a job that were observed and no longer exist."""
        return tuple(self._lost.get(uid, {}).values())

    def single(self, kind: str, uid: str) -> str | None:
        """Return the uid of the Service or NetworkPolicy of a job; None if there is none."""
        known = self._singles[kind].get(self._owner(uid))
        return None if known is None else known.uid

    def singles(self, uid: str) -> dict[str, Single]:
        """Return the facts about the Service and the NetworkPolicy of a job, by kind."""
        job = self._owner(uid)
        found = ((kind, known.get(job)) for kind, known in self._singles.items())
        return {kind: one.single for kind, one in found if one is not None and one.single}

    def _owner(self, uid: str) -> Owner:
        """Return the key of the objects of a job; no object has the key of an unknown job."""
        return (self.jobs.namespace(uid), uid)

    def keep_job(self, job: Manifest) -> None:
        """Store a job unless a newer version of it is stored."""
        self.jobs.keep(job)

    def forget(self, uid: str) -> None:
        """Drop a job that is gone; the garbage collector deletes its objects."""
        self.jobs.forget(uid)
        self._lost.pop(uid, None)

    def forget_lost(self, uid: str, *, attempt: int) -> None:
        """Drop the lost pods of all attempts but the given one and the next.

        The others no longer matter, or never belonged to the job: anyone who may create pods can
        create and delete any number of pods with the labels of the job.
        """
        near = (attempt, attempt + 1)  # another operator may have started the next attempt
        kept = {
            pod.name: pod
            for pod in self.lost(uid)
            if pod.attempt in near and pod.index < MAX_REPLICAS
        }
        self._lost[uid] = kept

    def take(self, kind: str, change: Change, source: str = "") -> set[str]:
        """Store an event of a watch or a page of a list.

        Args:
            kind: the kind of the objects.
            change: the event or the page.
            source: the reader of the list; pages of different readers may alternate.

        Returns:
            The uids of the jobs that changed, or whose objects changed. Those that are not in
            `jobs` are gone.
        """
        match change:
            case Listed():
                return self._listed(kind, change, source)
            case Changed(manifest):
                self._hear(kind, version(manifest))
                return self.keep(kind, manifest)
            case Gone(manifest):
                self._hear(kind, version(manifest))
                return self._gone(kind, manifest)

    def _hear(self, kind: str, told: int) -> None:
        self._told[kind] = max(self._told[kind], told)

    def keep(self, kind: str, manifest: Manifest) -> set[str]:
        """Store an object; return the uid of its job, if the observed state of the job changed."""
        if kind == names.KIND:
            self.keep_job(manifest)
            return {manifest["metadata"]["uid"]}
        known = read(kind, manifest)
        return set() if known is None else self._keep(kind, known)

    def _keep(self, kind: str, new: Known) -> set[str]:
        if new.pod is None:
            return self._keep_single(self._singles[kind], new)
        name = new.pod.name
        old = self._pods.get(new.job, {}).get(name)
        gone = self._lost.get(new.job[1], {}).get(name)
        is_late = old is not None and old.version >= new.version
        if is_late or (gone is not None and gone.uid == new.uid):
            return set()
        self._pods[new.job][name] = new
        return set() if old is not None and old.pod == new.pod else {new.job[1]}

    def _keep_single(self, known: dict[Owner, Known], new: Known) -> set[str]:
        old = known.get(new.job)
        if old is not None and old.version > new.version:
            return set()
        known[new.job] = new
        return {new.job[1]}

    def remove(self, kind: str, job: Owner, uid: str) -> bool:
        """Drop an object after the response to its deletion; return whether it was stored."""
        known = self._pods.get(job, {}).values() if kind == "Pod" else self._single(kind, job)
        found = next((one for one in known if one.uid == uid), None)
        if found is not None:
            self._drop(kind, found)
        return found is not None

    def _single(self, kind: str, job: Owner) -> list[Known]:
        known = self._singles[kind].get(job)
        return [] if known is None else [known]

    def _gone(self, kind: str, manifest: Manifest) -> set[str]:
        uid, job = manifest["metadata"]["uid"], owner(manifest)
        if kind == names.KIND:
            self.forget(uid)
            return {uid}
        if job is None:
            return set()
        last = read(kind, manifest)
        if last is not None:
            self._drop(kind, last)
        else:  # the pod cannot be read: use its last state
            self.remove(kind, job, uid)
        return {job[1]}

    def _drop(self, kind: str, last: Known) -> None:
        """Remove an object, unless another object has its name now."""
        job, pod = last.job, last.pod
        if pod is None:
            if any(known.uid == last.uid for known in self._single(kind, job)):
                del self._singles[kind][job]
            return
        known = self._pods.get(job, {}).get(pod.name)
        if known is not None and known.uid == last.uid:
            del self._pods[job][pod.name]
            if not self._pods[job]:
                del self._pods[job]
        if job == self._owner(job[1]):
            self._lost[job[1]][pod.name] = pod

    def _listed(self, kind: str, page: Listed, source: str) -> set[str]:
        """Store a page; the last page completes the list.

        The pods of a list are stored together, with the last page: a part of them could show that
        a replica failed, and hide that another replica failed before it. Jobs are stored page by
        page.
        """
        pages = self._pages.get((kind, source))
        if pages is None or pages.version != page.version:
            pages = self._pages[kind, source] = Pages(page.version)
        pages.add(kind, page)
        concerned = self._keep_jobs(page) if kind == names.KIND else set[str]()
        if page.more:
            return concerned
        del self._pages[kind, source]
        return concerned | self._replace(kind, pages)

    def _replace(self, kind: str, pages: Pages) -> set[str]:
        """Store a complete list: an object that is not in it, and not newer than it, was deleted.

        If the list is older than the newest event, unknown objects of the list are not stored,
        because they may have been deleted since.
        """
        is_late = pages.version < self._told[kind]
        self._hear(kind, pages.version)
        if kind == names.KIND:
            return self._forget_jobs(pages)
        known = {one.uid: one for one in self._all(kind)}
        missing = [
            one
            for uid, one in known.items()
            if uid not in pages.uids and one.version[0] <= pages.version
        ]
        for one in missing:
            self._drop(kind, one)
        concerned = {one.job[1] for one in missing}
        for one in pages.known:
            if one.uid in known or not is_late:
                concerned |= self._keep(kind, one)
        return concerned

    def _keep_jobs(self, page: Listed) -> set[str]:
        is_late = page.version < self._told[names.KIND]
        for job in page.objects:
            if job["metadata"]["uid"] in self.jobs or not is_late:
                self.keep_job(job)
        return {job["metadata"]["uid"] for job in page.objects} & self.jobs.keys()

    def _forget_jobs(self, pages: Pages) -> set[str]:
        missing = self.jobs.until(pages.version) - pages.uids
        for uid in missing:
            self.forget(uid)
        return missing

    def _all(self, kind: str) -> list[Known]:
        if kind != "Pod":
            return list(self._singles[kind].values())
        return [one for pods in self._pods.values() for one in pods.values()]
