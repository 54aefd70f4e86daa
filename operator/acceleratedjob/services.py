"""What a job has on the network: a name for every pod, and a wall if it asks for one."""

import hashlib
import json

from acceleratedjob import api
from acceleratedjob.spec import JobSpec

_DIGITS = 6  # of a number that somebody may have written


def owner_reference(spec: JobSpec) -> api.Manifest:
    """The reference by which the garbage collector removes what a deleted job leaves.

    It blocks the owner's deletion: one in the foreground is over when the pods have stopped. Where
    the API server checks who may block (OwnerReferencesPermissionEnforcement), that needs the right
    to update the job's finalizers.
    """
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "name": spec.name,
        "uid": spec.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def service(spec: JobSpec) -> api.Manifest:
    """The Service of a job.

    Names resolve before pods are ready: training processes find each other while they start.
    """
    made = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": api.job_labels(spec.name) | api.APP_LABELS,
            "ownerReferences": [owner_reference(spec)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": api.pod_selector(spec.name, spec.uid),
            "ports": [{"name": "rendezvous", "port": spec.network.port, "appProtocol": "tcp"}],
        },
    }
    return recorded(made)


# Fields of the spec that decide what an object does, and to which an API server adds nothing; a
# PodGroup's are compared only as they were written, since its scheduler may fill them in.
_RECORDED = {
    "Service": "clusterIP,publishNotReadyAddresses,selector",
    "NetworkPolicy": "ingress,podSelector,policyTypes",
    "PodGroup": "minMember,priorityClassName,queue",
}


def recorded(manifest: api.Manifest) -> api.Manifest:
    """The same with a record of what it does, by which another version knows it, too."""
    fields = _RECORDED[manifest["kind"]]
    record = {api.MADE_AS_ANNOTATION: f"{fields}={_digest(manifest, fields)}"}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": record}}


def _digest(manifest: api.View, fields: str) -> str:
    spec = manifest.get("spec") or {}
    told = json.dumps([spec.get(name) for name in fields.split(",")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def is_as_made(manifest: api.View) -> bool:
    """Whether a Service or NetworkPolicy does what it was made for, by its own record.

    What another version of the operator makes otherwise is no change, nor is what has no record.
    """
    record = api.annotations(manifest).get(api.MADE_AS_ANNOTATION)
    if record is None:
        return True
    fields, _, digest = record.partition("=")
    return _digest(manifest, fields) == digest


def repaired(manifest: api.Manifest, times: int) -> api.Manifest:
    """The same with how often it was created anew."""
    known = api.annotations(manifest) | ({api.REPAIRS_ANNOTATION: str(times)} if times else {})
    return manifest | {"metadata": manifest["metadata"] | {"annotations": known}}


def times_repaired(manifest: api.View) -> int:
    """How often it was created anew; an annotation that is no such number is 0."""
    told = api.annotations(manifest).get(api.REPAIRS_ANNOTATION, "")
    return int(told) if told.isdecimal() and len(told) < _DIGITS else 0


def ports(manifest: api.View) -> frozenset[object]:
    """The ports that a Service or NetworkPolicy names."""
    spec = manifest.get("spec") or {}
    return frozenset(
        entry.get("port")
        for part in (spec, *(spec.get("ingress") or ()))
        for entry in part.get("ports") or ()
    )


def port(kind: str, spec: JobSpec) -> int:
    """The port that a job's Service or NetworkPolicy must have."""
    return spec.network.port if kind == "Service" else spec.network.progress_port


def network_policy(spec: JobSpec) -> api.Manifest:
    """The wall of an isolated job: in come its own pods and the operator, out goes what will.

    The operator may be in any namespace, so whoever wears its label there may ask for the progress;
    nothing else is open to it.
    """
    ours = {"podSelector": {"matchLabels": api.pod_selector(spec.name, spec.uid)}}
    anywhere: api.Manifest = {"namespaceSelector": {}}
    operator = anywhere | {"podSelector": {"matchLabels": api.OPERATOR_LABELS}}
    progress = {"protocol": "TCP", "port": spec.network.progress_port}
    made = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": api.job_labels(spec.name) | api.APP_LABELS,
            "ownerReferences": [owner_reference(spec)],
        },
        "spec": ours
        | {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [ours]}, {"from": [operator], "ports": [progress]}],
        },
    }
    return recorded(made)
