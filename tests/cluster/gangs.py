"""Definitions of PodGroups, as the gangs' schedulers bring them."""

from typing import Any


def pod_groups(api_version: str) -> dict[str, Any]:
    """A definition of PodGroups, as a gang's scheduler brings it."""
    group, version = api_version.split("/")
    names = {"kind": "PodGroup", "plural": "podgroups", "singular": "podgroup"}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"podgroups.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names | {"listKind": "PodGroupList"},
            "versions": [served | {"schema": {"openAPIV3Schema": anything}}],
        },
    }
