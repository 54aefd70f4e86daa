"""What the operator reads in a job's pod template, and what it refuses there.

The rest of a PodTemplateSpec is the API server's to judge, when the first pod is created.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from acceleratedjob import quantity
from acceleratedjob.api import View
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.schema import mapping

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
# What the operator decides for each pod, and so no template may.
_DECIDED = {
    "hostname": "may not be set: the operator names each pod for its replica",
    "subdomain": "may not be set: it is the job's Service",
}


def read_template(value: object, path: str) -> View:
    """Check a pod template; it is returned as it came.

    Raises:
        InvalidSpec: it has no container, decides what the operator decides, or sets an environment
            variable of the contract.
    """
    template = mapping(value, path)
    spec = mapping(_required(template, "spec", path), f"{path}.spec")
    _check_containers(spec, f"{path}.spec.containers")
    for name, sentence in _DECIDED.items():
        if spec.get(name) is not None:
            raise InvalidSpec(f"{path}.spec.{name}", sentence)
    policy = spec.get("restartPolicy", "Never")
    if policy != "Never":
        sentence = f"must be Never, got {policy!r}: the operator restarts all pods together"
        raise InvalidSpec(f"{path}.spec.restartPolicy", sentence)
    _check_env(trainer(template), f"{path}.spec.containers[{trainer_index(template)}].env")
    return template


def _required(value: View, name: str, path: str) -> Any:
    if value.get(name) is None:
        raise InvalidSpec(f"{path}.{name}", "is required")
    return value[name]


def _check_containers(spec: View, path: str) -> None:
    containers = _required(spec, "containers", path.removesuffix(".containers"))
    if not isinstance(containers, list) or not containers:
        raise InvalidSpec(path, "must be a list of at least one container")
    for i, container in enumerate(containers):
        name = _required(mapping(container, f"{path}[{i}]"), "name", f"{path}[{i}]")
        if not isinstance(name, str):
            raise InvalidSpec(f"{path}[{i}].name", f"must be a string, got {name!r}")


def _check_env(container: View, path: str) -> None:
    for i, variable in enumerate(container.get("env") or ()):
        name = mapping(variable, f"{path}[{i}]").get("name")
        if isinstance(name, str) and RESERVED_ENV.fullmatch(name):
            raise InvalidSpec(f"{path}[{i}].name", f"{name} is set by the operator")


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
        yield name, quantity.parse(amount)
