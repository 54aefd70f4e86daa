"""What has been seen of all jobs: fed by the watches and by the answers to our own writes.

Lists, events and answers come in any order, so versions decide, as a controller's expectations do:
an object replaces what is here only if it is newer, and a list removes only what is not newer than
the list.
"""

from collections import defaultdict

from acceleratedjob import api
from acceleratedjob.api import Manifest
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.jobs import Jobs
from acceleratedjob.known import Known, Owner, Pages, owner, read, version
from acceleratedjob.observe import Pod, Single
from acceleratedjob.sections import MAX_REPLICAS


class Cache:
    """Jobs by their uids, and what they have by their owner."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        # kind -> its job -> what a job has one of: its Service, its NetworkPolicy
        self._singles: defaultdict[str, dict[Owner, Known]] = defaultdict(dict)
        self._pods: defaultdict[Owner, dict[str, Known]] = defaultdict(dict)  # by name
        self._lost: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._told: defaultdict[str, int] = defaultdict(int)  # kind -> newest version heard of
        self._pages: dict[tuple[str, str], Pages] = {}  # by kind and source

    def pods(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that exist."""
        known = self._pods.get(self._owner(uid), {}).values()
        return tuple(one.pod for one in known if one.pod is not None)

    def lost(self, uid: str) -> tuple[Pod, ...]:
        """A job's pods that were seen and are gone, as they were last."""
        return tuple(self._lost.get(uid, {}).values())

    def single(self, kind: str, uid: str) -> str | None:
        """The uid of what a job has one of; None if it is not there."""
        known = self._singles[kind].get(self._owner(uid))
        return None if known is None else known.uid

    def singles(self, uid: str) -> dict[str, Single]:
        """What a job has one of, by its kind."""
        job = self._owner(uid)
        found = ((kind, known.get(job)) for kind, known in self._singles.items())
        return {kind: one.single for kind, one in found if one is not None and one.single}

    def _owner(self, uid: str) -> Owner:
        """A job that is known, as what it has names it; nothing has one that is not known."""
        return (self.jobs.namespace(uid), uid)

    def keep_job(self, job: Manifest) -> None:
        """Store a job unless a newer one is known."""
        self.jobs.keep(job)

    def forget(self, uid: str) -> None:
        """The job is gone; its objects are the garbage collector's."""
        self.jobs.forget(uid)
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

    def take(self, kind: str, change: Change, source: str = "") -> set[str]:
        """Store what a watch or a list says; return the uids of the jobs concerned.

        A job that was concerned and is not in `jobs` is gone.

        Args:
            kind: of the object or objects.
            change: what is said.
            source: who reads; the pages of two readers' lists may come in turns.
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
        """Store one object; the uid of its job, if that is news to it."""
        if kind == api.KIND:
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
        """An object of a job is gone, as a write's answer says; whether it was known."""
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
        if kind == api.KIND:
            self.forget(uid)
            return {uid}
        if job is None:
            return set()
        last = read(kind, manifest)
        if last is not None:
            self._drop(kind, last)
        else:  # a pod that cannot be read is as it was when it could be
            self.remove(kind, job, uid)
        return {job[1]}

    def _drop(self, kind: str, last: Known) -> None:
        """Remove an object, unless another has its place by now."""
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
        """Take in a page; the last one completes the list.

        A list of pods is then taken at once: half of it would show the end of one replica without
        that of another, which was earlier. Jobs are taken page by page.
        """
        pages = self._pages.get((kind, source))
        if pages is None or pages.version != page.version:
            pages = self._pages[kind, source] = Pages(page.version)
        pages.add(kind, page)
        concerned = self._keep_jobs(page) if kind == api.KIND else set[str]()
        if page.more:
            return concerned
        del self._pages[kind, source]
        return concerned | self._replace(kind, pages)

    def _replace(self, kind: str, pages: Pages) -> set[str]:
        """Take a whole list: what it does not have, and is not newer, has gone unseen.

        Of a list that is older than what was heard since, objects that are not known may be gone.
        """
        is_late = pages.version < self._told[kind]
        self._hear(kind, pages.version)
        if kind == api.KIND:
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
        is_late = page.version < self._told[api.KIND]
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
