"""The Service of a job, and its NetworkPolicy."""

import hashlib
import json

from acceleratedjob.api import names
from acceleratedjob.api.spec import JobSpec

_DIGITS = 6  # the limit for the number in an annotation, which anyone may write


def owner_reference(spec: JobSpec) -> names.Manifest:
    """Return the owner reference by which the garbage collector deletes the objects of a job.

    It blocks the deletion of the owner: a foreground deletion waits until the pods have stopped. If
    the API server restricts this (OwnerReferencesPermissionEnforcement), the operator needs the
    permission to update the finalizers of jobs.
    """
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": spec.name,
        "uid": spec.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def object_metadata(spec: JobSpec) -> names.Manifest:
    """Return the metadata of an object that has the name of the job."""
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": names.job_labels(spec.name) | names.APP_LABELS,
        "ownerReferences": [owner_reference(spec)],
    }


def service(spec: JobSpec) -> names.Manifest:
    """Return the headless Service of a job.

    Names resolve before pods are ready, because training processes connect while they start.
    """
    made = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": object_metadata(spec),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.pod_selector(spec.name, spec.uid),
            "ports": [{"name": "rendezvous", "port": spec.network.port, "appProtocol": "tcp"}],
        },
    }
    return recorded(made)


# The fields of each spec that are recorded. An API server adds no defaults to those of a Service or
# NetworkPolicy. A PodGroup is compared by its record only, because its scheduler may add defaults.
_RECORDED = {
    "Service": "clusterIP,publishNotReadyAddresses,selector",
    "NetworkPolicy": "ingress,podSelector,policyTypes",
    "PodGroup": "minMember,priorityClassName,queue",
}


def recorded(manifest: names.Manifest) -> names.Manifest:
    """Add an annotation with the names of the recorded fields, and the hash of their values."""
    fields = _RECORDED[manifest["kind"]]
    record = {names.MADE_AS_ANNOTATION: f"{fields}={_digest(manifest, fields)}"}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": record}}


def _digest(manifest: names.View, fields: str) -> str:
    spec = manifest.get("spec") or {}
    told = json.dumps([spec.get(name) for name in fields.split(",")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def is_as_made(manifest: names.View) -> bool:
    """Whether a Service or NetworkPolicy is unchanged, by the record in its annotation.

    An object that another version of the operator created differently counts as unchanged, and so
    does one without a record.
    """
    record = names.annotations(manifest).get(names.MADE_AS_ANNOTATION)
    if record is None:
        return True
    fields, _, digest = record.partition("=")
    return _digest(manifest, fields) == digest


def repaired(manifest: names.Manifest, times: int) -> names.Manifest:
    """Add an annotation with the number of times that the object was re-created."""
    known = names.annotations(manifest) | ({names.REPAIRS_ANNOTATION: str(times)} if times else {})
    return manifest | {"metadata": manifest["metadata"] | {"annotations": known}}


def times_repaired(manifest: names.View) -> int:
    """Return how many times an object was re-created; an invalid annotation counts as 0."""
    told = names.annotations(manifest).get(names.REPAIRS_ANNOTATION, "")
    return int(told) if told.isdecimal() and len(told) < _DIGITS else 0


def ports(manifest: names.View) -> frozenset[object]:
    """Return the ports of a Service or NetworkPolicy."""
    spec = manifest.get("spec") or {}
    return frozenset(
        entry.get("port")
        for part in (spec, *(spec.get("ingress") or ()))
        for entry in part.get("ports") or ()
    )


def network_policy(spec: JobSpec) -> names.Manifest:
    """Return the NetworkPolicy of an isolated job: ingress from its pods and the operator only.

    The operator may run in any namespace, so any pod with its label can reach the progress port,
    and no other port.
    """
    ours = {"podSelector": {"matchLabels": names.pod_selector(spec.name, spec.uid)}}
    anywhere: names.Manifest = {"namespaceSelector": {}}
    operator = anywhere | {"podSelector": {"matchLabels": names.OPERATOR_LABELS}}
    progress = {"protocol": "TCP", "port": spec.network.progress_port}
    made = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": object_metadata(spec),
        "spec": ours
        | {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [ours]}, {"from": [operator], "ports": [progress]}],
        },
    }
    return recorded(made)
