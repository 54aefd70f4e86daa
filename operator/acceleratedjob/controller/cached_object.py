"""The objects of jobs as the cache stores them: facts and a version, never a manifest."""

import logging
from dataclasses import dataclass, field

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.cluster import Listed
from acceleratedjob.manifests.network import is_as_made, ports, times_repaired
from acceleratedjob.observe.pod import Pod, Single, read_pod

log = logging.getLogger(__name__)

_NEVER = "1970-01-01T00:00:00Z"
Owner = tuple[str, str]  # namespace and uid of a job


def owner(manifest: View) -> Owner | None:
    """Return the job that controls an object; None if no job does.

    An owner reference may name a job of another namespace; that job is not the owner.
    """
    uid = names.owner_uid(manifest)
    return None if uid is None else (manifest["metadata"]["namespace"], uid)


def _facts(manifest: View) -> Pod | None:
    """Return the facts about a pod; None if it cannot be read, which must not stop other jobs."""
    try:
        return read_pod(manifest)
    except Exception:
        metadata = manifest["metadata"]
        log.exception("ignoring unreadable pod %s/%s", metadata["namespace"], metadata["name"])
        return None


def version(manifest: View) -> int:
    """Return the resource version of an object, which increases with each write."""
    return int(manifest["metadata"].get("resourceVersion", 0))


def _single(manifest: View) -> Single | None:
    """Return the facts about a Service or NetworkPolicy; None if it is being deleted."""
    metadata = manifest["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    return Single(
        as_made=is_as_made(manifest),
        ports=ports(manifest),
        made=parse_time(metadata.get("creationTimestamp") or _NEVER),
        repairs=times_repaired(manifest),
    )


Version = tuple[int, bool]  # a resource version, and whether the object came with its status


@dataclass(frozen=True, slots=True)
class Known:
    """The facts about an object of a job that are stored.

    Attributes:
        job: the job that owns the object.
        uid: the uid of the object.
        version: the version of the object.
        pod: the facts about the object, if it is a pod.
        single: the facts about the object, if it is a Service or NetworkPolicy.
    """

    job: Owner
    uid: str
    version: Version
    pod: Pod | None = None
    single: Single | None = None


@dataclass(slots=True)
class Pages:
    """The pages of a list that is not complete yet.

    Attributes:
        version: the resource version of the list.
        uids: the uids of all listed objects.
        known: the facts about the listed objects that belong to jobs.
    """

    version: int
    uids: set[str] = field(default_factory=set)
    known: list[Known] = field(default_factory=list)

    def add(self, kind: str, page: Listed) -> None:
        """Add a page; none of its manifests is kept."""
        self.uids.update(manifest["metadata"]["uid"] for manifest in page.objects)
        if kind != names.KIND:
            found = (read(kind, manifest) for manifest in page.objects)
            self.known += (one for one in found if one is not None)


def read(kind: str, manifest: View) -> Known | None:
    """Return the facts about an object; None if no job owns it, or if it is an unreadable pod."""
    job, uid = owner(manifest), manifest["metadata"]["uid"]
    if job is None:
        return None
    # The response to a creation has no status; the watch event of the same version has one.
    seen = (version(manifest), "status" in manifest)
    if kind != "Pod":
        return Known(job, uid, seen, single=_single(manifest))
    pod = _facts(manifest)
    return None if pod is None else Known(job, uid, seen, pod)
