"""What a job has on the network: a name for every pod, and a wall if it asks for one."""

import json

from acceleratedjob import api
from acceleratedjob.spec import JobSpec


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
    return {
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


_ESSENTIAL = {
    "Service": ("selector", "publishNotReadyAddresses", "clusterIP"),
    "NetworkPolicy": ("podSelector", "ingress", "policyTypes"),
}


def essence(kind: str, manifest: api.View) -> str:
    """What a Service or NetworkPolicy does, without what the API server and others add to it."""
    spec = manifest.get("spec") or {}
    ports = [port.get("port") for port in spec.get("ports") or ()]
    return json.dumps([ports, *(spec.get(name) for name in _ESSENTIAL[kind])], sort_keys=True)


def network_policy(spec: JobSpec) -> api.Manifest:
    """The wall of an isolated job: in come its own pods and the operator, out goes what will.

    The operator may be in any namespace, so whoever wears its label there may ask for the progress;
    nothing else is open to it.
    """
    ours = {"podSelector": {"matchLabels": api.pod_selector(spec.name, spec.uid)}}
    anywhere: api.Manifest = {"namespaceSelector": {}}
    operator = anywhere | {"podSelector": {"matchLabels": api.OPERATOR_LABELS}}
    progress = {"protocol": "TCP", "port": spec.network.progress_port}
    return {
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
