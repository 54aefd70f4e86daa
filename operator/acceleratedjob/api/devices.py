"""Counts the devices of the training container in a pod template.

Devices whose number is not in the template are not guessed: a resource claim (DRA), a runtime class
or access to the node may provide devices that only the node knows.
"""

import re
from collections.abc import Iterator

from acceleratedjob.api.names import View
from acceleratedjob.api.template import limits, trainer

# Resources that count devices, one per process. Other resources of these vendors are amounts:
# nvidia.com/gpumem, gpu.intel.com/millicores, huawei.com/Ascend910-memory.
DEVICE = re.compile(
    r"nvidia\.com/(gpu(\.shared)?|mig-.+)"
    r"|amd\.com/(gpu|[a-z]+_nps\d+)"  # a partition is named by its mode: cpx_nps4
    r"|gpu\.intel\.com/(i915|xe)"
    r"|habana\.ai/gaudi"
    r"|huawei\.com/Ascend[^-]*"
    r"|cambricon\.com/mlu"
    r"|mthreads\.com/gpu"
)
NVIDIA, AMD = "nvidia.com/gpu", "amd.com/gpu"  # whole GPUs, of which NCCL needs one per process
_VISIBLE = re.compile(r"(NVIDIA|AMD|HABANA|ASCEND)_VISIBLE_DEVICES")  # read by the runtime
_NONE_VISIBLE = ("", "none", "void")


def count(template: View) -> int:
    """Return the number of devices (GPUs, MIG slices, ...); each runs one process."""
    return sum(number for _, number in _counted(template))


def found(template: View) -> str:
    """Describe the devices that `processesPerReplica: auto` found.

    >>> container = {"name": "trainer", "resources": {"claims": [{"name": "gpus"}]}}
    >>> found({"spec": {"containers": [container]}})
    'the claim gpus, whose devices cannot be counted here'
    """
    counted = [f"{number} of {name}" for name, number in _counted(template)]
    if counted:
        return " and ".join(counted)
    others = list(uncounted(template))
    return (
        f"{' and '.join(others)}, whose devices cannot be counted here" if others else "no device"
    )


def uncounted(template: View) -> Iterator[str]:
    """Yield the parts of the template that may provide devices, without their number.

    An unknown extended resource may be a device: google.com/tpu (one process uses several of them),
    aws.amazon.com/neuron (several processes use one of them), or a device of a new vendor.
    """
    for name, amount in limits(template):
        if amount and "/" in name and not DEVICE.fullmatch(name):
            yield f"{amount:f} of {name}"
    yield from _of_container(trainer(template))
    yield from _of_pod(template["spec"])


def _of_container(container: View) -> Iterator[str]:
    for claim in (container.get("resources") or {}).get("claims") or ():
        yield f"the claim {claim['name']}"
    if (container.get("securityContext") or {}).get("privileged"):
        yield "a privileged container"
    for variable in container.get("env") or ():
        if _VISIBLE.fullmatch(variable["name"]) and variable.get("value") not in _NONE_VISIBLE:
            yield f"the variable {variable['name']}"


def _of_pod(pod: View) -> Iterator[str]:
    if pod.get("runtimeClassName"):
        yield f"the runtime class {pod['runtimeClassName']}"
    for volume in pod.get("volumes") or ():
        path = str((volume.get("hostPath") or {}).get("path", ""))
        if f"{path}/".startswith("/dev/"):
            yield f"the node's {path}"


def may_be(template: View) -> bool:
    """Whether the training container may have a device, counted or not."""
    return bool(count(template)) or any(True for _ in uncounted(template))


def enough_for(template: View) -> int | None:
    """Return the number of processes for which NCCL has enough GPUs; None if it is not known."""
    counted = _counted(template)
    is_known = bool(counted) and all(name in (NVIDIA, AMD) for name, _ in counted)
    return None if not is_known or any(True for _ in uncounted(template)) else count(template)


def _counted(template: View) -> list[tuple[str, int]]:
    return [(name, int(n)) for name, n in limits(template) if n and DEVICE.fullmatch(name)]
