"""What the operator reads in a job's pod template, and what it refuses there.

The rest of a PodTemplateSpec is the API server's to judge, when the first pod is created.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from acceleratedjob import quantity
from acceleratedjob.api import View
from acceleratedjob.errors import InvalidSpec, shown
from acceleratedjob.schema import (
    Reader,
    choice,
    integer,
    list_of,
    mapping,
    mapping_of,
    partly,
    string,
    text,
)

TRAINER = "trainer"  # the training container's name; without one of this name it is the first
RESERVED_ENV = re.compile(
    r"(LOCAL_|GROUP_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|PET_.*|ACCELERATEDJOB_.*"
)
# Resources that are devices, one for each process. Of the same vendors there are others, which are
# amounts: nvidia.com/gpumem, gpu.intel.com/millicores, huawei.com/Ascend910-memory.
DEVICE = re.compile(
    r"nvidia\.com/(gpu(\.shared)?|mig-.+)"
    r"|amd\.com/(gpu|[a-z]+_nps\d+)"  # a partition is named by its mode: cpx_nps4
    r"|gpu\.intel\.com/(i915|xe)"
    r"|habana\.ai/gaudi"
    r"|huawei\.com/Ascend[^-]*"
    r"|cambricon\.com/mlu"
    r"|mthreads\.com/gpu"
)
# Chips of which each drives several processes, or one process drives several: nobody can tell here.
CHIP = re.compile(r"google\.com/tpu|aws\.amazon\.com/neuron.*")
REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"


def _refused(why: str) -> Reader:
    def reader(_value: object, path: str) -> None:
        raise InvalidSpec(path, why)

    return reader


def read_quantity(value: object, path: str) -> Decimal:
    """An amount, at least 0."""
    try:
        amount = quantity.parse(value)  # type: ignore[arg-type]  # whatever it is, parse says so
    except ValueError as error:
        raise InvalidSpec(path, str(error)) from error
    if amount < 0:
        raise InvalidSpec(path, f"must be at least 0, got {shown(value)}")
    return amount


_MANY = 2**31
_WORDS = list_of(string, at_most=_MANY)
_MAPPINGS = list_of(mapping, at_most=_MANY)
_TERMS = partly({REQUIRED_TERMS: _MAPPINGS})
_VARIABLE = partly({"name": string, "value": string}, required=["name"])
_CONTAINER = partly(
    {
        "name": text(r"(?s:.+)", "a name"),
        "command": _WORDS,
        "args": _WORDS,
        "env": list_of(_VARIABLE, at_most=_MANY),
        "volumeMounts": _MAPPINGS,
        "resources": partly({"limits": mapping_of(read_quantity)}),
    },
    required=["name"],
)
# What the operator reads, adds to or decides. The rest is the API server's to judge.
_POD = partly(
    {
        "containers": list_of(_CONTAINER, at_least=1, at_most=_MANY),
        "volumes": _MAPPINGS,
        "affinity": partly({"podAffinity": _TERMS, "podAntiAffinity": _TERMS}),
        "terminationGracePeriodSeconds": integer(minimum=0),
        "priorityClassName": string,
        "restartPolicy": choice("Never"),
        "hostname": _refused("may not be set: the operator names each pod for its replica"),
        "subdomain": _refused("may not be set: it is the job's Service"),
    },
    required=["containers"],
)
_STRINGS = mapping_of(string)
_METADATA = partly({"labels": _STRINGS, "annotations": _STRINGS}, whole=True)
_TEMPLATE = partly({"metadata": _METADATA, "spec": _POD}, required=["spec"], whole=True)


def read_template(value: object, path: str) -> View:
    """Check a pod template; it is returned as it came.

    Raises:
        InvalidSpec: it has no container, decides what the operator decides, or sets an environment
            variable of the contract.
    """
    template: View = _TEMPLATE(value, path)
    _check_env(trainer(template), f"{path}.spec.containers[{trainer_index(template)}].env")
    return template


def _check_env(container: View, path: str) -> None:
    for i, variable in enumerate(container.get("env") or ()):
        if RESERVED_ENV.fullmatch(variable["name"]):
            raise InvalidSpec(f"{path}[{i}].name", f"{variable['name']} is set by the operator")


def trainer_index(template: View) -> int:
    """Index of the training container: the one named `trainer`, else the first."""
    names = [container["name"] for container in template["spec"]["containers"]]
    return names.index(TRAINER) if TRAINER in names else 0


def trainer(template: View) -> View:
    """The training container."""
    container: View = template["spec"]["containers"][trainer_index(template)]
    return container


def devices(template: View) -> int:
    """How many devices for a process each (GPUs, MIG slices, …) the training container asks for."""
    return int(sum(amount for name, amount in _limits(template) if DEVICE.fullmatch(name)))


def computes_on_cpu(template: View) -> bool:
    """Whether the training container asks for no accelerator of any kind."""
    asked = (name for name, amount in _limits(template) if amount)
    return not any(DEVICE.fullmatch(name) or CHIP.fullmatch(name) for name in asked)


def limit(template: View, resource: str) -> Decimal | None:
    """The training container's limit of a resource, in cores or bytes; None without one."""
    return dict(_limits(template)).get(resource)


def _limits(template: View) -> Iterator[tuple[str, Decimal]]:
    resources: Mapping[str, Any] = trainer(template).get("resources") or {}
    for name, amount in (resources.get("limits") or {}).items():
        if amount is not None:
            yield name, quantity.parse(amount)
