"""Reads what a cluster mounts into its pods."""

from pathlib import Path

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """Return the namespace of the pod that this process runs in; outside of a pod, "default"."""
    return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"
