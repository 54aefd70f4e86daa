"""Implements `cluster.Cluster` with an API server."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

from acceleratedjob import metrics
from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import Change, Listed, Ref, Rendered
from acceleratedjob.errors import Conflict, NotFound, NotLeading, shown
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import Stream

_PREFIX = {  # kind -> the part of its path before the namespace, and its plural
    names.KIND: (f"/apis/{names.API_VERSION}", names.PLURAL),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Event": ("/api/v1", "events"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodGroup.scheduling.volcano.sh": ("/apis/scheduling.volcano.sh/v1beta1", "podgroups"),
    "PodGroup.scheduling.x-k8s.io": ("/apis/scheduling.x-k8s.io/v1alpha1", "podgroups"),
}

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_MERGE = "application/merge-patch+json"


def collection(kind: str, namespace: str | None) -> str:
    """Return the path of all objects of a kind, in one namespace or in all.

    >>> collection("Pod", "research")
    '/api/v1/namespaces/research/pods'
    """
    prefix, plural = _PREFIX[kind]
    place = f"/namespaces/{segment(namespace)}" if namespace else ""
    return f"{prefix}{place}/{plural}"


def path(ref: Ref) -> str:
    """Return the path of an object.

    Raises:
        NotFound: no object can have its name or namespace.
    """
    return f"{collection(ref.kind, ref.namespace)}/{segment(ref.name)}"


def segment(name: str) -> str:
    """Return a name as a part of a path, which it neither ends nor leaves.

    >>> segment("system:reader"), segment("a?b#c")
    ('system:reader', 'a%3Fb%23c')

    Raises:
        NotFound: no object can have the name; it may be that of a user, who has mistyped it.
    """
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise NotFound(f"no object can have the name {shown(name)}")
    return quote(name, safe=":")


def _stays(deleted: Manifest) -> bool:
    """Whether an object still exists after a deletion, judged by the response to the deletion.

    Only a grace period or a finalizer can keep it.
    """
    metadata = deleted.get("metadata", {})
    return bool(metadata.get("deletionGracePeriodSeconds") or metadata.get("finalizers"))


# The user writes their spec, so a misspelled field must not be dropped without a word.
_USERS = frozenset({names.KIND, "PersistentVolumeClaim"})


@dataclass(frozen=True, slots=True)
class KubernetesCluster:
    """The objects of one namespace, or of all.

    Attributes:
        connection: the connection to the API server.
        namespace: the namespace; None for all.
        may_write: whether a write may be sent now.
        pulse: when each watch last received something.
    """

    connection: Connection
    namespace: str | None = None
    may_write: Callable[[], bool] = lambda: True
    pulse: Pulse = field(default_factory=lambda: Pulse(()))

    async def create(self, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        ref = Ref.of(manifest)
        place, begin = collection(ref.kind, ref.namespace), self._begin("create", manifest["kind"])
        params = {"fieldValidation": "Strict"} if ref.kind in _USERS else None
        made: Manifest = await self.connection.request(
            "POST", place, manifest, params=params, begin=begin
        )
        return made

    async def create_pod(self, pod: Rendered) -> Manifest:
        """See `Cluster.create_pod`; the response has metadata only, which saves CPU time."""
        made: Manifest = await self.connection.request(
            "POST",
            collection(pod.ref.kind, pod.ref.namespace),
            pod.body,
            params={"fieldValidation": "Strict" if pod.is_checked else "Ignore"},
            accept=METADATA_ONLY,
            begin=self._begin("create", pod.ref.kind),
        )
        return made | {"kind": pod.ref.kind}

    async def read(self, ref: Ref) -> Manifest:
        """See `Cluster.read`."""
        found: Manifest = await self.connection.request("GET", path(ref))
        return found

    async def delete(
        self, ref: Ref, *, uid: str, grace_seconds: int | None = None
    ) -> Manifest | None:
        """See `Cluster.delete`."""
        begin = self._begin("delete", ref.kind)
        options: Manifest = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            left: Manifest = await self.connection.request(
                "DELETE", path(ref), options, begin=begin
            )
        except Conflict as error:  # another object has the name now
            raise NotFound(str(error)) from error
        return left if _stays(left) else None

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        """See `Cluster.write_status`; no two objects share a resource version."""
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        written: Manifest = await self.connection.request(
            "PATCH",
            f"{path(ref)}/status",
            patch,
            content_type="application/json-patch+json",
            begin=self._begin("patch", ref.kind),
        )
        if written["metadata"]["uid"] != uid:
            sentence = f"{ref.name} is another object now"
            raise NotFound(sentence)
        return written

    async def suspend(self, job: Ref, suspend: bool) -> Manifest:
        """Set `spec.suspend` of a job, as its user, and return the job.

        Raises:
            NotFound: the job does not exist.
        """
        change = {"spec": {"suspend": suspend}}
        changed: Manifest = await self.connection.request(
            "PATCH", path(job), change, content_type=_MERGE
        )
        return changed

    def watch(self, kind: str) -> AsyncIterator[Change]:
        """See `Cluster.watch`."""
        return self._stream(kind).changes()

    def list(self, kind: str) -> AsyncIterator[Listed]:
        """List all jobs, or all objects of another kind that have the label of a job."""
        return self._stream(kind).pages()

    def _stream(self, kind: str) -> Stream:
        label = None if kind == names.KIND else names.JOB_NAME_LABEL
        path = collection(kind, self.namespace)
        return Stream(self.connection, path, kind, label, self.pulse)

    def _begin(self, verb: str, kind: str) -> Callable[[], None]:
        """Return the function to call before a write is sent, and before each retry."""
        return partial(self._count, verb, kind)

    def _count(self, verb: str, kind: str) -> None:
        """Count a write; cancel it if the lease was lost while the write waited to be sent."""
        if not self.may_write():
            raise NotLeading("this operator does not hold the lease")
        metrics.WRITES.labels(verb, kind).inc()
