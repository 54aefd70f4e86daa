"""What the cache stores of the objects of jobs: facts and a version, never a manifest."""

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
    """The job that controls an object; None if no job does.

    An owner reference can name a job of another namespace; that job is not the owner.
    """
    uid = names.owner_uid(manifest)
    return None if uid is None else (manifest["metadata"]["namespace"], uid)


def _facts(manifest: View) -> Pod | None:
    """The facts of a pod; None if it cannot be read, which must not stop all other jobs."""
    try:
        return read_pod(manifest)
    except Exception:
        metadata = manifest["metadata"]
        log.exception("%s/%s cannot be read: left out", metadata["namespace"], metadata["name"])
        return None


def version(manifest: View) -> int:
    """The resource version of an object, which increases with each write."""
    return int(manifest["metadata"].get("resourceVersion", 0))


def _single(manifest: View) -> Single | None:
    """The facts of a Service or NetworkPolicy; None if it is being deleted: nothing to repair."""
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
    """What is stored of an object of a job."""

    job: Owner
    uid: str
    version: Version
    pod: Pod | None = None  # its facts, if it is one
    single: Single | None = None  # else these


@dataclass(slots=True)
class Pages:
    """The pages of a list that is not complete yet."""

    version: int
    uids: set[str] = field(default_factory=set)  # of all objects
    known: list[Known] = field(default_factory=list)

    def add(self, kind: str, page: Listed) -> None:
        """Add a page; none of its manifests is kept."""
        self.uids.update(manifest["metadata"]["uid"] for manifest in page.objects)
        if kind != names.KIND:
            found = (read(kind, manifest) for manifest in page.objects)
            self.known += (one for one in found if one is not None)


def read(kind: str, manifest: View) -> Known | None:
    """What is stored of an object; None if no job owns it, or if it is an unreadable pod."""
    job, uid = owner(manifest), manifest["metadata"]["uid"]
    if job is None:
        return None
    # The response to a creation has no status; the watch event of the same version has one.
    seen = (version(manifest), "status" in manifest)
    if kind != "Pod":
        return Known(job, uid, seen, single=_single(manifest))
    pod = _facts(manifest)
    return None if pod is None else Known(job, uid, seen, pod)
