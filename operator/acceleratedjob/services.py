"""The headless Service that gives every pod of a job its DNS name."""

from acceleratedjob import api
from acceleratedjob.spec import JobSpec


def owner_reference(spec: JobSpec) -> api.Manifest:
    """The reference by which the garbage collector removes what a deleted job leaves.

    It does not block the owner's deletion: that would need a right on the job's finalizers.
    """
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "name": spec.name,
        "uid": spec.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def service(spec: JobSpec) -> api.Manifest:
    """The Service of a job.

    Names resolve before pods are ready: training processes find each other while they start.
    """
    labels = api.job_labels(spec.name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": labels | api.APP_LABELS,
            "ownerReferences": [owner_reference(spec)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels,
            "ports": [{"name": "rendezvous", "port": spec.network.port, "appProtocol": "tcp"}],
        },
    }
