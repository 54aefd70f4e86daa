"""Executes single actions. Every action is idempotent."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import assert_never

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import USUAL_GRACE_SECONDS, JobSpec
from acceleratedjob.api.status import shortened
from acceleratedjob.cluster import Cluster, Ref
from acceleratedjob.errors import AlreadyExists, Held, NotFound, Refused
from acceleratedjob.manifests.claims import claim, may_use
from acceleratedjob.manifests.network import network_policy, repaired, service
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.manifests.podgroup import SCHEDULERS, is_same_group, pod_group
from acceleratedjob.planner.actions import (
    Announce,
    CreateClaim,
    CreatePod,
    CreatePodGroup,
    CreatePolicy,
    CreateService,
    DeleteJob,
    DeletePod,
    DeletePodGroup,
    DeletePolicy,
    DeleteService,
    Deletion,
    Write,
)


async def execute(cluster: Cluster, gang: Gang, action: Write, *, time: str) -> Manifest | None:
    """Execute an action for a job.

    Args:
        cluster: the cluster of the job.
        gang: the pods of the attempt that the action belongs to.
        action: the action.
        time: the current time, as the API writes it.

    Returns:
        The object after the action; None if it was deleted, or if the action created an Event.

    Raises:
        Refused: the cluster rejects the object, or an object of another owner has its name.
        Unavailable: the cluster does not respond.
    """
    spec = gang.spec
    match action:
        case Announce():
            with contextlib.suppress(AlreadyExists):  # this operator created it before a restart
                await cluster.create(event(spec, action, time, gang.attempt.number))
            return None
        case CreatePod(_, index):
            rendered = gang.pod(index)
            create = partial(cluster.create_pod, rendered)
            return await _ours(cluster, spec, rendered.ref, create)
        case CreateService(times) | CreatePolicy(times):
            made = service(spec) if isinstance(action, CreateService) else network_policy(spec)
            return await _create(cluster, spec, repaired(made, times))
        case CreatePodGroup():
            return await _group(cluster, spec)
        case CreateClaim():
            return await _claim(cluster, spec)
        case _:
            return await _remove(cluster, spec, action)


async def _create(cluster: Cluster, spec: JobSpec, manifest: Manifest) -> Manifest:
    return await _ours(cluster, spec, Ref.of(manifest), partial(cluster.create, manifest))


async def _ours(
    cluster: Cluster,
    spec: JobSpec,
    ref: Ref,
    create: Callable[[], Awaitable[Manifest]],
    *,
    may_use: Callable[[Manifest], bool] | None = None,
) -> Manifest:
    """Create an object, or return the existing one if the job may use it: if it owns the object."""
    try:
        return await create()
    except AlreadyExists:
        found = await cluster.read(ref)
    is_ours = names.owner_uid(found) == spec.uid if may_use is None else may_use(found)
    if not is_ours:
        raise _taken(spec, ref, found)
    return found


_INSTEAD = {
    "PersistentVolumeClaim": (
        "name it in spec.checkpoint.volume.persistentVolumeClaim to use it, or delete it"
    )
}


def _taken(spec: JobSpec, ref: Ref, found: Manifest) -> Refused:
    """Return the error for a name that another object has, perhaps until it has terminated."""
    named, metadata = f"{ref.kind} {ref.namespace}/{ref.name}", found["metadata"]
    # The owner has the name of this job, but not its uid.
    is_predecessors = names.job_reference(found, spec.name) is not None
    if not is_predecessors and "deletionTimestamp" not in metadata:
        instead = _INSTEAD.get(ref.kind, "delete or rename it")
        return Refused(f"{named} exists and is not this job's; {instead}", final=False)
    whose = " of a deleted job with the same name" if is_predecessors else ""
    place = found.get("spec") or {}
    node = f" on node {place['nodeName']}" if place.get("nodeName") else ""
    sentence = f"{named}{whose} is still terminating{node}; this job waits until it is gone"
    given = metadata.get("deletionGracePeriodSeconds", place.get("terminationGracePeriodSeconds"))
    grace = USUAL_GRACE_SECONDS if given is None else min(int(given), names.LONGEST_GRACE)
    return Held(sentence, holder=ref.name, grace_seconds=grace)


async def _claim(cluster: Cluster, spec: JobSpec) -> Manifest | None:
    """Create the claim of the checkpoints, or return the existing one if the job may use it."""
    wanted = claim(spec)
    if wanted is None:
        return None
    create = partial(cluster.create, wanted)
    usable = partial(may_use, wanted=wanted)
    return await _ours(cluster, spec, Ref.of(wanted), create, may_use=usable)


async def _group(cluster: Cluster, spec: JobSpec) -> Manifest | None:
    """Create the PodGroup, or replace it if it was created before the spec of the job changed."""
    wanted = pod_group(spec)
    if wanted is None:
        return None
    try:
        found = await _create(cluster, spec, wanted)
    except NotFound as error:
        project = SCHEDULERS[spec.scheduling.gang].project
        sentence = (
            f"this cluster has no PodGroups of {wanted['apiVersion']}: install {project}, "
            "or choose another spec.scheduling.gang"
        )
        raise Refused(sentence, final=False) from error
    if is_same_group(found, wanted):
        return found
    await _delete(cluster, Ref.of(wanted), found["metadata"]["uid"], None)
    return await _create(cluster, spec, wanted)


async def _remove(cluster: Cluster, spec: JobSpec, action: Deletion) -> Manifest | None:
    named = (spec.namespace, spec.name)
    match action:
        case DeletePod(name, uid, grace):
            return await _delete(cluster, Ref("Pod", spec.namespace, name), uid, grace)
        case DeleteService(uid):
            ref = Ref("Service", *named)
        case DeletePolicy(uid):
            ref = Ref("NetworkPolicy", *named)
        case DeleteJob():
            ref, uid = Ref(names.KIND, *named), spec.uid
        case DeletePodGroup(gang):
            await _ungroup(cluster, spec, gang)
            return None
        case _:
            assert_never(action)
    return await _delete(cluster, ref, uid, None)


async def _ungroup(cluster: Cluster, spec: JobSpec, gang: str) -> None:
    """Delete the PodGroup for a gang scheduler; PodGroups are not watched, so it is read first."""
    found = await _group_of(cluster, spec, gang)
    if found is not None and names.owner_uid(found) == spec.uid:
        await _delete(cluster, Ref.of(found), found["metadata"]["uid"], None)


async def _group_of(cluster: Cluster, spec: JobSpec, gang: str) -> Manifest | None:
    """Return the PodGroup with the name of the job; None if none exists or none can be read."""
    wanted = pod_group(replace(spec, scheduling=replace(spec.scheduling, gang=gang)))
    if wanted is None:
        return None
    try:
        return await cluster.read(Ref.of(wanted))
    except (NotFound, Refused):  # without the permission to read PodGroups, none was created
        return None


async def _delete(cluster: Cluster, ref: Ref, uid: str, grace: int | None) -> Manifest | None:
    try:
        return await cluster.delete(ref, uid=uid, grace_seconds=grace)
    except NotFound:
        return None


def _event_name(spec: JobSpec, announcement: Announce, attempt: int) -> str:
    """Return the name of an Event; equal Events of an attempt share it, and are created once."""
    told = (spec.uid, str(attempt), str(announcement.reason), announcement.message)
    return f"{spec.name}.{hashlib.sha256(chr(0).join(told).encode()).hexdigest()[:16]}"


def event(spec: JobSpec, announcement: Announce, time: str, attempt: int) -> Manifest:
    """Return the Event that reports a decision about a job."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": _event_name(spec, announcement, attempt),
            "namespace": spec.namespace,
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": spec.namespace,
            "name": spec.name,
            "uid": spec.uid,
        },
        "type": "Warning" if announcement.warning else "Normal",
        "reason": str(announcement.reason),
        "message": shortened(announcement.message),
        "source": {"component": names.COMPONENT},
        "reportingComponent": names.COMPONENT,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
