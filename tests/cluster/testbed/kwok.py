"""Fake nodes: the scheduler fills them as any other, and kwok says that their pods run."""

import json
from pathlib import Path
from typing import Any

USER = "kwok"  # who kwok is to the API server
LABEL = "type=kwok"
_KEY, _VALUE = LABEL.split("=")
PLACEMENT = {  # fields of a pod's spec, for a pod that belongs on a fake node
    "nodeSelector": {_KEY: _VALUE},
    "tolerations": [{"key": "kwok", "operator": "Exists"}],
}
_ANNOTATION = "kwok.x-k8s.io/node"
_SIZE = {"cpu": "512", "memory": "4Ti", "pods": "4000", "nvidia.com/gpu": "4096"}


def node(index: int) -> dict[str, Any]:
    """A fake node, tainted so that only pods that tolerate `kwok` land on it."""
    name = f"kwok-{index}"
    labels = {_KEY: _VALUE, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {_ANNOTATION: "fake"}, "labels": labels},
        "spec": {"taints": [{"key": "kwok", "value": "true", "effect": "NoSchedule"}]},
        "status": {"allocatable": _SIZE, "capacity": _SIZE},
    }


def nodes(count: int) -> str:
    """A manifest of fake nodes."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*map(node, range(count))]})


def manners() -> str:
    """A manifest of what the API server asks of kwok: that it ends terminating pods only.

    A kubelet deletes a pod by its uid, kwok by its name alone: a deletion that it repeats, or that
    is late, would fall on the next pod of the name.
    """
    name = "kwok-ends-terminating-pods"
    group = "admissionregistration.k8s.io/v1"
    deleted = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"]}
    policy = {
        "matchConstraints": {"resourceRules": [deleted | {"resources": ["pods"]}]},
        "matchConditions": [
            {"name": "by-kwok", "expression": f"request.userInfo.username == '{USER}'"}
        ],
        "validations": [
            {
                "expression": "has(oldObject.metadata.deletionTimestamp)",
                "message": "kwok must delete no pod but one that is terminating",
            }
        ],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    items = [
        {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, spec in (
            ("ValidatingAdmissionPolicy", policy),
            ("ValidatingAdmissionPolicyBinding", binding),
        )
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def command(program: Path, kubeconfig: Path) -> list[str | Path]:
    """Kwok, which touches no node that does not carry its annotation.

    Without leases it would say only every minute that its nodes live: they would come and go.
    """
    selector = f"--manage-nodes-with-annotation-selector={_ANNOTATION}=fake"
    leases = "--node-lease-duration-seconds=40"
    return [program, "--kubeconfig", kubeconfig, "--manage-all-nodes=false", selector, leases]
