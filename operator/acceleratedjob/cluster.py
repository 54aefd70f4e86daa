"""The protocol of a cluster: all requests that the operator sends.

`kube.KubernetesCluster` uses an API server. `local.LocalCluster` stores objects in memory and runs
pods as processes. Both pass tests/cluster/test_clusters.py.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from acceleratedjob.api.names import Manifest, View

SHARED_KINDS = ("PodGroup",)  # kinds that several API groups define
WATCHED = ("Pod", "Service", "NetworkPolicy")  # kinds of a job's objects that are watched


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an object.

    Attributes:
        kind: the kind; with a dot and the API group if several groups define the kind.
        namespace: the namespace of the object.
        name: the name of the object.
    """

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: View) -> "Ref":
        """Return the reference to an object that has a kind, a namespace and a name."""
        metadata, kind = manifest["metadata"], manifest["kind"]
        if kind in SHARED_KINDS:
            kind = f"{kind}.{manifest['apiVersion'].partition('/')[0]}"
        return cls(kind, metadata["namespace"], metadata["name"])


@dataclass(frozen=True, slots=True)
class Rendered:
    """An object to create, as the JSON to send.

    Attributes:
        ref: the reference to the object.
        body: the JSON.
        is_checked: whether the API server rejects unknown fields, rather than dropping them.
    """

    ref: Ref
    body: bytes
    is_checked: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list of all objects of a kind, at one resource version.

    An object that is in no page was deleted, unless it is newer than the list.

    Attributes:
        objects: the objects of the page.
        version: the resource version of the list, the same on all pages.
        more: whether another page of the list follows.
    """

    objects: tuple[Manifest, ...]
    version: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or modified.

    Attributes:
        object: the object.
    """

    object: Manifest


@dataclass(frozen=True, slots=True)
class Gone:
    """An object was deleted.

    Attributes:
        object: the object in its last state.
    """

    object: Manifest


Change = Listed | Changed | Gone


class Cluster(Protocol):
    """Objects of a few kinds, with the rules of an API server.

    Every method may raise `errors.Unavailable`.
    """

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object, and return it with its uid and resourceVersion.

        Raises:
            AlreadyExists: an object of that name exists.
            Refused: the object is invalid, or not allowed, perhaps only for now.
        """
        ...

    async def create_pod(self, pod: Rendered) -> Manifest:
        """Create a pod as `create` does; the returned object may have only metadata."""
        ...

    async def read(self, ref: Ref) -> Manifest:
        """Return an object.

        Raises:
            NotFound: the object does not exist.
        """
        ...

    async def delete(
        self, ref: Ref, *, uid: str, grace_seconds: int | None = None
    ) -> Manifest | None:
        """Delete an object; a pod still exists until its containers have stopped.

        Args:
            ref: the reference to the object.
            uid: the uid that the object must have.
            grace_seconds: the time between SIGTERM and SIGKILL; None for that of the pod's spec.

        Returns:
            The object if it still exists; None if it was removed immediately.

        Raises:
            NotFound: no object has this reference and uid.
        """
        ...

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        """Replace the whole status of a job, and return the job.

        Args:
            ref: the reference to the job.
            status: the new status.
            uid: the uid of the job.
            resource_version: the resource version of the job when the status was decided.

        Raises:
            NotFound: the job is gone.
            Conflict: the job has changed since.
        """
        ...

    def watch(self, kind: str) -> AsyncIterator[Change]:
        """Yield the objects of a kind that have the job-name label, and then each change, forever.

        A list comes first, page by page, then changes in the order in which they happened. After a
        gap in the watch (the API server restarted, the resource version is too old), another list
        follows. A list that fails starts again with its first page, at another version.
        """
        ...
