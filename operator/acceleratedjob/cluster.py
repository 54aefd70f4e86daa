"""The protocol of a cluster: everything that the operator needs.

`kube.KubernetesCluster` asks an API server, `local.LocalCluster` keeps objects in memory and runs
pods as processes. Both pass tests/cluster/test_clusters.py.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from acceleratedjob.api.names import Manifest, View

SHARED_KINDS = ("PodGroup",)  # of several schedulers
WATCHED = ("Pod", "Service", "NetworkPolicy")  # what jobs have, and a watch shows


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an object."""

    kind: str  # and, where two groups of the API have one, a dot and the group
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: View) -> "Ref":
        """The reference to an object that has a kind, a namespace and a name."""
        metadata, kind = manifest["metadata"], manifest["kind"]
        if kind in SHARED_KINDS:
            kind = f"{kind}.{manifest['apiVersion'].partition('/')[0]}"
        return cls(kind, metadata["namespace"], metadata["name"])


@dataclass(frozen=True, slots=True)
class Rendered:
    """An object to create, as the JSON to send."""

    ref: Ref
    body: bytes
    is_checked: bool  # a field that the API does not know is refused, rather than left out


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list of all objects of a kind, at one resource version.

    An object that is in no page was deleted, unless it is newer than the list.
    """

    objects: tuple[Manifest, ...]
    version: int = 0  # the resource version of the list, the same on all of its pages
    more: bool = False  # another page of this list follows


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or modified."""

    object: Manifest


@dataclass(frozen=True, slots=True)
class Gone:
    """An object was deleted; this was its last state."""

    object: Manifest


Change = Listed | Changed | Gone


class Cluster(Protocol):
    """A cluster with objects of a few kinds, and with the rules of the API server.

    Every method may raise `errors.Unavailable`.
    """

    async def create(self, manifest: Manifest) -> Manifest:
        """Store an object and return it with uid and resourceVersion.

        Raises:
            AlreadyExists: an object of that name exists.
            Refused: the object is invalid, or not allowed (now).
        """
        ...

    async def create_pod(self, pod: Rendered) -> Manifest:
        """Store a pod as `create` does; what is returned has its metadata, and maybe no more."""
        ...

    async def read(self, ref: Ref) -> Manifest:
        """Return an object.

        Raises:
            NotFound: there is none.
        """
        ...

    async def delete(
        self, ref: Ref, *, uid: str, grace_seconds: int | None = None
    ) -> Manifest | None:
        """Ask for an object's removal; a pod goes when its containers have stopped.

        Args:
            ref: the object.
            uid: the object is deleted only if it has this uid.
            grace_seconds: between SIGTERM and SIGKILL; None for what the pod's own spec says.

        Returns:
            The object while it is being removed, None if it is gone at once.

        Raises:
            NotFound: there is none with this uid.
        """
        ...

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        """Replace a job's whole status and return the job.

        Args:
            ref: the job.
            status: the new status.
            uid: of the job.
            resource_version: of the job when the status was decided.

        Raises:
            NotFound: the job is gone.
            Conflict: the job has changed since.
        """
        ...

    def watch(self, kind: str) -> AsyncIterator[Change]:
        """Yield the objects of a kind that carry the job-name label: pods and what else jobs have.

        First comes a list, page by page, then changes in the order they happened, without end.
        After a gap in the stream (a restarted API server, a resource version too old) a list comes
        again. A list that fails begins again with its first page, at another version.
        """
        ...
