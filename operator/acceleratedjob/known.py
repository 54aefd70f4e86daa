"""What is kept of the objects that jobs have: facts and a version, never a manifest."""

import logging
from dataclasses import dataclass, field

from acceleratedjob import api
from acceleratedjob.api import View
from acceleratedjob.cluster import Listed
from acceleratedjob.observe import Pod, Single, read_pod
from acceleratedjob.services import is_as_made, ports, times_repaired

log = logging.getLogger(__name__)

_NEVER = "1970-01-01T00:00:00Z"
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


def _single(manifest: View) -> Single | None:
    """The facts of what a job has one of; None if it is being deleted: nothing is to be mended."""
    metadata = manifest["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    return Single(
        as_made=is_as_made(manifest),
        ports=ports(manifest),
        made=api.parse_time(metadata.get("creationTimestamp") or _NEVER),
        repairs=times_repaired(manifest),
    )


Version = tuple[int, bool]  # a resource version, and whether the object came with its status


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of an object that a job has."""

    job: Owner
    uid: str
    version: Version
    pod: Pod | None = None  # its facts, if it is one
    single: Single | None = None  # else these


@dataclass(slots=True)
class Pages:
    """The pages of a list that is not complete yet, as far as they are kept."""

    version: int
    uids: set[str] = field(default_factory=set)  # of all objects
    known: list[Known] = field(default_factory=list)

    def add(self, kind: str, page: Listed) -> None:
        """Take in one page; nothing of its manifests is kept."""
        self.uids.update(manifest["metadata"]["uid"] for manifest in page.objects)
        if kind != api.KIND:
            found = (read(kind, manifest) for manifest in page.objects)
            self.known += (one for one in found if one is not None)


def read(kind: str, manifest: View) -> Known | None:
    """What is kept of an object; None if it is no job's, or is a pod that cannot be read."""
    job, uid = owner(manifest), manifest["metadata"]["uid"]
    if job is None:
        return None
    # What a creation answers has no status; the event of the same version says what it is.
    seen = (version(manifest), "status" in manifest)
    if kind != "Pod":
        return Known(job, uid, seen, single=_single(manifest))
    pod = _facts(manifest)
    return None if pod is None else Known(job, uid, seen, pod)
