"""Reads what a cluster mounts into its pods."""

from pathlib import Path

from acceleratedjob.kube.kubeconfig import find

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """Return the namespace of the pod that this process runs in; outside of a pod, "default"."""
    return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"


def usual_namespace(kubeconfig: str | None, context: str | None) -> str:
    """Return the namespace that kubectl would use: that of the context, or that of the pod.

    Raises:
        Unreachable: the context cannot be used.
    """
    if kubeconfig is None and context is None and OWN_NAMESPACE.exists():
        return own_namespace()
    return find(kubeconfig, context).namespace
