"""Applies objects of any kind, as `kubectl apply --server-side` does."""

from typing import Any

from acceleratedjob.api.names import Manifest, View
from acceleratedjob.errors import NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import segment

FIELD_MANAGER = "acceleratedjob"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML, too


async def path_of(connection: Connection, manifest: View, namespace: str) -> str:
    """Return the path of an object, by the resources that the API server tells it has.

    Raises:
        NotFound: the API server does not know the kind, or no object can have the name.
        ClusterError: it cannot be asked.
    """
    version, kind = manifest["apiVersion"], manifest["kind"]
    group, _, number = version.rpartition("/")
    prefix = f"/apis/{segment(group)}/{segment(number)}" if group else f"/api/{segment(number)}"
    unknown = NotFound(
        f"the API server must have the kind {kind} of {version}, and does not: install its CRD"
    )
    try:
        told: Any = await connection.request("GET", prefix)
    except NotFound as error:
        raise unknown from error
    for one in told["resources"]:
        if one["kind"] == kind and "/" not in one["name"]:
            place = f"/namespaces/{segment(namespace)}" if one["namespaced"] else ""
            return f"{prefix}{place}/{one['name']}/{segment(manifest['metadata']['name'])}"
    raise unknown


async def apply(
    connection: Connection, path: str, manifest: Manifest, *, dry_run: bool = False
) -> Manifest:
    """Create an object, or change the fields of an existing one that a manifest has.

    Args:
        connection: the connection to the API server.
        path: the path of the object.
        manifest: the manifest.
        dry_run: whether all is checked, and nothing stored.

    Returns:
        The object.

    Raises:
        Refused: the object is invalid, or not allowed.
        Conflict: another manager has set a field to another value.
    """
    params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    params |= {"dryRun": "All"} if dry_run else {}
    made: Manifest = await connection.request(
        "PATCH", path, manifest, params=params, content_type=_APPLY
    )
    return made
