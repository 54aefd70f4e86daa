"""The pods of a job: its template, with identity, environment and shared memory added."""

import copy
import itertools
import posixpath
from collections.abc import Container
from decimal import Decimal
from typing import Any

from acceleratedjob import api, env, groups, template
from acceleratedjob.services import owner_reference
from acceleratedjob.spec import JobSpec

SHARED_MEMORY = "shared-memory"
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108  # a mount point in the pod, not a file made here
# What the template may say otherwise. Service links would put a variable in the environment for
# every Service of the namespace; training needs no access to the API; a mesh's proxy breaks
# connections between ranks.
_SPEC_DEFAULTS = {"enableServiceLinks": False, "automountServiceAccountToken": False}
_MESH_LABELS = {"sidecar.istio.io/inject": "false"}


def pod(spec: JobSpec, *, attempt: int, index: int) -> api.Manifest:
    """The pod of one replica in one attempt."""
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(spec, attempt=attempt, index=index),
        "spec": _pod_spec(spec, attempt=attempt, index=index),
    }
    groups.join(spec, made, attempt=attempt)
    return made


def _metadata(spec: JobSpec, *, attempt: int, index: int) -> api.Manifest:
    given = spec.template.get("metadata") or {}
    identity = api.job_labels(spec.name) | {
        api.JOB_UID_LABEL: spec.uid,
        api.ATTEMPT_LABEL: str(attempt),
        api.REPLICA_INDEX_LABEL: str(index),
    }
    labels = _MESH_LABELS | api.APP_LABELS | (given.get("labels") or {}) | identity
    trainer = template.trainer(spec.template)["name"]
    return {
        "name": api.pod_name(spec.name, attempt, index),
        "namespace": spec.namespace,
        "labels": labels,
        "annotations": {**(given.get("annotations") or {}), api.DEFAULT_CONTAINER: trainer},
        "ownerReferences": [owner_reference(spec)],
    }


def _pod_spec(spec: JobSpec, *, attempt: int, index: int) -> api.Manifest:
    result: dict[str, Any] = _SPEC_DEFAULTS | copy.deepcopy(dict(spec.template["spec"]))
    result |= {
        "restartPolicy": "Never",
        "hostname": api.pod_name(spec.name, attempt, index),
        "subdomain": spec.name,
    }
    container = result["containers"][template.trainer_index(spec.template)]
    if result.get("hostNetwork") and result.get("dnsPolicy") in (None, "ClusterFirst"):
        result["dnsPolicy"] = (
            "ClusterFirstWithHostNet"  # else the node's DNS, which knows no Service
        )
    ours = env.pod_env(spec, attempt=attempt, index=index)
    container["env"] = env.merged(ours, container.get("env") or [])
    _add_shared_memory(spec, result, container)
    return result


def _add_shared_memory(spec: JobSpec, pod_spec: api.Manifest, container: api.Manifest) -> None:
    """Mount memory at /dev/shm, which is 64 MB otherwise: too small for data loader workers."""
    mounts, volumes = container.get("volumeMounts") or [], pod_spec.get("volumes") or []
    if any(posixpath.normpath(m.get("mountPath") or "") == SHARED_MEMORY_PATH for m in mounts):
        return
    memory: dict[str, Any] = {"medium": "Memory"}
    size = shared_memory_size(spec)
    if size is not None:
        memory["sizeLimit"] = size
    name = _free_name({volume.get("name") for volume in volumes})
    container["volumeMounts"] = [*mounts, {"name": name, "mountPath": SHARED_MEMORY_PATH}]
    pod_spec["volumes"] = [*volumes, {"name": name, "emptyDir": memory}]


def _free_name(taken: Container[str | None]) -> str:
    """A name for our volume that none of the author's has."""
    names = (f"{SHARED_MEMORY}-{i}" for i in itertools.count(1))
    return next(name for name in itertools.chain((SHARED_MEMORY,), names) if name not in taken)


def shared_memory_size(spec: JobSpec) -> str | None:
    """Size of /dev/shm: as asked, or half the memory limit; None (no limit of its own) without."""
    if spec.shared_memory.size_limit is not None:
        return spec.shared_memory.size_limit
    memory = template.limit(spec.template, "memory")
    return None if memory is None else f"{int(memory / 2 / Decimal(2**20))}Mi"
