"""Kinds of others' that a test needs an API server to know: their definitions, without a schema."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import wait_until


def definition(api_version: str, kind: str) -> dict[str, Any]:
    """The definition of a kind, whose objects may have any fields."""
    group, version = api_version.split("/")
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower()}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names['plural']}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names | {"listKind": f"{kind}List"},
            "versions": [served | {"schema": {"openAPIV3Schema": anything}}],
        },
    }


def pod_groups(api_version: str) -> dict[str, Any]:
    """A definition of PodGroups, as a gang's scheduler brings it."""
    return definition(api_version, "PodGroup")


def until_established(cluster: Cluster, *names: str) -> None:
    """Return when the API server has taken these definitions on.

    Kubectl waits for a condition only if there are any: asked too early, it ends with an error.
    """
    wait = ("wait", "crd", *names, "--for=condition=Established", "--timeout=1s")
    wait_until(lambda: cluster.answers(*wait), what=f"the kinds of {', '.join(names)}", seconds=240)


@contextmanager
def known(cluster: Cluster, definitions: list[dict[str, Any]]) -> Iterator[None]:
    """The API server knows some kinds inside the block; those that it has are left as they are."""
    names = [each["metadata"]["name"] for each in definitions]
    there = cluster.kubectl("get", "crd", *names, "--ignore-not-found", "--output=name")
    ours = [one for one, name in zip(definitions, names, strict=True) if name not in there]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": ours})
    if ours:
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=text)
        until_established(cluster, *(each["metadata"]["name"] for each in ours))
    try:
        yield
    finally:
        if ours:
            cluster.kubectl("delete", "--ignore-not-found", "--filename=-", stdin=text)
