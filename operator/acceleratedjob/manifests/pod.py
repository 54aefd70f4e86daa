"""Builds the pods of a job: the template with identity, environment variables, volumes."""

import copy
import itertools
import posixpath
from collections.abc import Container
from decimal import Decimal
from typing import Any

from acceleratedjob.api import names, template
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests import claims, env, podgroup
from acceleratedjob.manifests.network import owner_reference

PROGRESS = "progress"  # the name of a port
SHARED_MEMORY = "shared-memory"
# Defaults that the template may override. Service links would add environment variables for every
# Service of the namespace; training needs no access to the API; the proxy of a service mesh breaks
# connections between ranks.
_SPEC_DEFAULTS = {"enableServiceLinks": False, "automountServiceAccountToken": False}
_MESH_LABELS = {"sidecar.istio.io/inject": "false"}


def pod(spec: JobSpec, *, attempt: Attempt, index: int) -> names.Manifest:
    """Return the pod of a replica in an attempt."""
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(spec, attempt=attempt, index=index),
        "spec": _pod_spec(spec, attempt=attempt, index=index),
    }
    podgroup.join(spec, made, attempt=attempt)
    return made


def _metadata(spec: JobSpec, *, attempt: Attempt, index: int) -> names.Manifest:
    given = spec.template.get("metadata") or {}
    identity = names.job_labels(spec.name) | {
        names.JOB_UID_LABEL: spec.uid,
        names.ATTEMPT_LABEL: str(attempt.number),
        names.REPLICA_INDEX_LABEL: str(index),
    }
    labels = _MESH_LABELS | names.APP_LABELS | (given.get("labels") or {}) | identity
    trainer = template.trainer(spec.template)["name"]
    return {
        "name": names.pod_name(spec.name, attempt.number, index),
        "namespace": spec.namespace,
        "labels": labels,
        "annotations": {**(given.get("annotations") or {}), names.DEFAULT_CONTAINER: trainer},
        "ownerReferences": [owner_reference(spec)],
    }


def _pod_spec(spec: JobSpec, *, attempt: Attempt, index: int) -> names.Manifest:
    result: dict[str, Any] = _SPEC_DEFAULTS | copy.deepcopy(dict(spec.template["spec"]))
    result |= {
        "restartPolicy": "Never",
        "hostname": names.pod_name(spec.name, attempt.number, index),
        "subdomain": spec.name,
    }
    container = result["containers"][template.trainer_index(spec.template)]
    if result.get("hostNetwork") and result.get("dnsPolicy") in (None, "ClusterFirst"):
        result["dnsPolicy"] = (
            "ClusterFirstWithHostNet"  # else the node's DNS is used, which resolves no Service
        )
    ours = env.pod_env(spec, attempt=attempt, index=index)
    container["env"] = env.merged(ours, container.get("env") or [])
    claims.mount(spec, result, container)
    if not result.get("hostNetwork"):  # there, a port would be reserved on the node
        _name_port(spec, container)
    _add_shared_memory(spec, result, container)
    return result


def _name_port(spec: JobSpec, container: names.Manifest) -> None:
    """Name the progress port, by which monitors select it, unless the template does."""
    ports, number = container.get("ports") or [], spec.network.progress_port
    if not any(one.get("name") == PROGRESS or one.get("containerPort") == number for one in ports):
        container["ports"] = [*ports, {"name": PROGRESS, "containerPort": number}]


def _add_shared_memory(spec: JobSpec, pod_spec: names.Manifest, container: names.Manifest) -> None:
    """Mount a memory volume at /dev/shm, whose default of 64 MB is too small for data loaders."""
    mounts, volumes = container.get("volumeMounts") or [], pod_spec.get("volumes") or []
    if any(posixpath.normpath(m.get("mountPath") or "") == env.SHARED_MEMORY_PATH for m in mounts):
        return
    memory: dict[str, Any] = {"medium": "Memory"}
    size = shared_memory_size(spec)
    if size is not None:
        memory["sizeLimit"] = size
    name = _free_name({volume.get("name") for volume in volumes})
    container["volumeMounts"] = [*mounts, {"name": name, "mountPath": env.SHARED_MEMORY_PATH}]
    pod_spec["volumes"] = [*volumes, {"name": name, "emptyDir": memory}]


def _free_name(taken: Container[str | None]) -> str:
    """Return a name for our volume that no volume of the template has."""
    free = (f"{SHARED_MEMORY}-{i}" for i in itertools.count(1))
    return next(name for name in itertools.chain((SHARED_MEMORY,), free) if name not in taken)


def shared_memory_size(spec: JobSpec) -> str | None:
    """Return the size of /dev/shm: as in the spec, or half of the memory limit; None without."""
    if spec.shared_memory.size_limit is not None:
        return spec.shared_memory.size_limit
    memory = template.limit(spec.template, "memory")
    return None if memory is None else f"{int(memory / 2 / Decimal(2**20))}Mi"
