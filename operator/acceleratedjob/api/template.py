"""Validates the fields of the pod template that the operator reads or sets itself.

The API server validates the rest of the PodTemplateSpec when the first pod is created.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from acceleratedjob.api import quantity
from acceleratedjob.api.names import View
from acceleratedjob.api.schema import (
    Faults,
    Reader,
    boolean,
    choice,
    integer,
    list_of,
    mapping,
    mapping_of,
    partly,
    string,
    text,
)
from acceleratedjob.errors import InvalidSpec, shown

TRAINER = "trainer"  # the name of the training container; if none has it, the first one is it
# Variables of the contract (`manifests.env`) that a template must not set, and why.
_RESERVED_ENV = {
    re.compile(
        r"(LOCAL_|GROUP_)?(RANK|WORLD_SIZE)|(PET_)?MASTER_(ADDR|PORT)"
        r"|PET_(NNODES|NPROC_PER_NODE|NODE_RANK)"
    ): "is set by the operator",
    re.compile(r"ACCELERATEDJOB_.*"): "begins with ACCELERATEDJOB_, reserved for the operator",
    re.compile(r"PET_STANDALONE"): "must not be set: each replica would train on its own",
}
REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"


def _refused(why: str) -> Reader:
    def reader(_value: object, path: str) -> None:
        raise InvalidSpec(path, why)

    return reader


def read_quantity(value: object, path: str) -> Decimal:
    """Read a non-negative quantity."""
    try:
        amount = quantity.parse(value)  # type: ignore[arg-type]  # parse rejects other types
    except ValueError as error:
        raise InvalidSpec(path, str(error)) from error
    if amount < 0:
        raise InvalidSpec(path, f"must be at least 0, got {shown(value)}")
    return amount


_MANY = 2**31
_WORDS = list_of(string, at_most=_MANY)
_MAPPINGS = list_of(mapping, at_most=_MANY)
_TERMS = partly({REQUIRED_TERMS: _MAPPINGS})
_NAMED = list_of(partly({"name": string}, required=["name"]), at_most=_MANY)
_VARIABLE = partly({"name": string, "value": string}, required=["name"])
_CONTAINER = partly(
    {
        "name": text(r"(?s:.+)", "a name"),
        "command": _WORDS,
        "args": _WORDS,
        "env": list_of(_VARIABLE, at_most=_MANY),
        "volumeMounts": list_of(partly({"mountPath": string}), at_most=_MANY),
        "ports": _MAPPINGS,
        "resources": partly({"limits": mapping_of(read_quantity), "claims": _NAMED}),
        "securityContext": mapping,
    },
    required=["name"],
)
# The fields that the operator reads or sets. The API server validates the others.
_POD = partly(
    {
        "containers": list_of(_CONTAINER, at_least=1, at_most=_MANY),
        "volumes": list_of(partly({"name": string, "hostPath": mapping}), at_most=_MANY),
        "runtimeClassName": string,
        "hostNetwork": boolean,
        "dnsPolicy": string,
        "affinity": partly({"podAffinity": _TERMS, "podAntiAffinity": _TERMS}),
        "terminationGracePeriodSeconds": integer(minimum=0),
        "priorityClassName": string,
        "restartPolicy": choice("Never"),
        "hostname": _refused("must not be set: the operator names each pod after its replica"),
        "subdomain": _refused("must not be set: the operator sets it to the Service of the job"),
    },
    required=["containers"],
)
_STRINGS = mapping_of(string)
# Generators of manifests write `creationTimestamp: null`.
_METADATA = partly(
    {"labels": _STRINGS, "annotations": _STRINGS, "creationTimestamp": string}, whole=True
)
_TEMPLATE = partly({"metadata": _METADATA, "spec": _POD}, required=["spec"], whole=True)


def read_template(value: object, path: str) -> View:
    """Check a pod template, and return it unchanged.

    Raises:
        InvalidSpec: the template has no container, or sets a field or an environment variable that
            the operator sets.
    """
    template: View = _TEMPLATE(value, path)
    _check_env(trainer(template), f"{path}.spec.containers[{trainer_index(template)}].env")
    return template


def _check_env(container: View, path: str) -> None:
    with Faults() as faults:
        for i, variable in enumerate(container.get("env") or ()):
            why = reserved_env(variable["name"])
            if why is not None:
                faults.add(f"{path}[{i}].name", f"{variable['name']} {why}")


def reserved_env(name: str) -> str | None:
    """Return why a template must not set an environment variable; None if it may."""
    return next((why for names, why in _RESERVED_ENV.items() if names.fullmatch(name)), None)


def trainer_index(template: View) -> int:
    """Return the index of the training container: the container `trainer`, or else the first."""
    names = [container["name"] for container in template["spec"]["containers"]]
    return names.index(TRAINER) if TRAINER in names else 0


def trainer(template: View) -> View:
    """Return the training container."""
    container: View = template["spec"]["containers"][trainer_index(template)]
    return container


def limit(template: View, resource: str) -> Decimal | None:
    """Return a resource limit of the training container, in cores or bytes; None without one."""
    return dict(limits(template)).get(resource)


def limits(template: View) -> Iterator[tuple[str, Decimal]]:
    """Yield the resource limits of the training container."""
    resources: Mapping[str, Any] = trainer(template).get("resources") or {}
    for name, amount in (resources.get("limits") or {}).items():
        if amount is not None:
            yield name, quantity.parse(amount)
