"""Deals the GPUs of this machine to pods, as the device plugins of a node do.

A process sees the GPUs that an environment variable names. A container that asks for some gets that
many. One that asks for none sees none, since a node makes only those devices visible in a container
that are in its limits. A container whose devices cannot be counted, such as those of a resource
claim, sees what this program sees.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from acceleratedjob.api import devices
from acceleratedjob.api.names import View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.template import limits, trainer, trainer_index
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.local.gpus import VENDORS, found, visible

_RESOURCES = tuple(one.resource for one in VENDORS)


def asked(template: View) -> dict[str, int]:
    """Return how many GPUs the training container asks for, by the name of the resource."""
    return {name: int(amount) for name, amount in limits(template) if amount and name in _RESOURCES}


def ignored_devices(template: View) -> Iterator[str]:
    """Yield the names of the devices in the limits that are not dealt."""
    for name, amount in limits(template):
        if amount and "/" in name and name not in _RESOURCES:
            yield name


class Gpus:
    """The GPUs of a machine, and which pod has which."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        """Create GPUs that no pod has.

        Args:
            names: what the variable of a vendor calls its GPUs, by the name of the resource.
        """
        self._names = names
        self._held: dict[str, dict[str, tuple[str, ...]]] = {}  # by pod uid, then by resource

    @classmethod
    def of_this_machine(cls) -> "Gpus":
        """Return the GPUs that this program sees."""
        return cls(found())

    def count(self, resource: str) -> int:
        """Return the number of GPUs of a vendor, free or not."""
        return len(self._names.get(resource, ()))

    def take(self, pod: View) -> list[str]:
        """Give a pod the GPUs that it asks for, and return the resources that are lacking.

        If any is, the pod gets none.
        """
        wanted = asked(pod)
        free = {name: self._free(name) for name in wanted}
        lacking = sorted(name for name, count in wanted.items() if len(free[name]) < count)
        if not lacking:
            uid = pod["metadata"]["uid"]
            self._held[uid] = {name: free[name][:count] for name, count in wanted.items()}
        return lacking

    def give_back(self, pod: View) -> None:
        """Take the GPUs of a pod back, if it has any."""
        self._held.pop(pod["metadata"]["uid"], None)

    def env(self, pod: View) -> dict[str, str]:
        """Return the environment variables by which a pod sees its GPUs only."""
        if not asked(pod) and devices.may_be(pod):
            return {}
        given = {one["name"]: one.get("value") for one in trainer(pod).get("env") or ()}
        held = self._held.get(pod["metadata"]["uid"], {})
        made = {}
        for one in VENDORS:
            chosen = _chosen(held.get(one.resource, ()), given.get(one.variable))
            made[one.variable] = ",".join(chosen) or one.nothing
        return made

    def _free(self, resource: str) -> tuple[str, ...]:
        taken = {name for held in self._held.values() for name in held.get(resource, ())}
        return tuple(name for name in self._names.get(resource, ()) if name not in taken)


def _chosen(own: tuple[str, ...], value: str | None) -> tuple[str, ...]:
    """Return the GPUs of a container that its template selects: it counts its own from 0."""
    chosen = visible(value, len(own))
    return tuple(own[int(one)] for one in chosen if one.isdecimal())


def insufficient(resources: Sequence[str]) -> str:
    """Return the scheduler's sentence about a pod that asks for more than there is.

    >>> insufficient(["nvidia.com/gpu"])
    '0/1 nodes are available: 1 Insufficient nvidia.com/gpu.'
    """
    return f"0/1 nodes are available: {', '.join(f'1 Insufficient {one}' for one in resources)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """GPUs that a job needs at once, and that a machine does not have even if no other job runs.

    Attributes:
        field: the field of the limit.
        resource: the name of the resource.
        each: how many a replica asks for.
        replicas: how many replicas there are at least.
        there: how many GPUs the machine has.
    """

    field: str
    resource: str
    each: int
    replicas: int
    there: int

    def __str__(self) -> str:
        """Return the sentence that names the numbers."""
        replicas = f"{self.replicas} replicas" if self.replicas > 1 else "1 replica"
        return (
            f"{replicas} with {self.each} {self.resource} each must have "
            f"{self.replicas * self.each}, but this machine has {self.there}"
        )


def shortage(spec: JobSpec, gpus: Gpus) -> Shortage | None:
    """Return the GPUs that a job lacks on a machine; None if it lacks none."""
    replicas = spec.replicas if spec.elastic is None else spec.elastic.min_replicas
    path = f"spec.template.spec.containers[{trainer_index(spec.template)}].resources.limits"
    for name, each in asked(spec.template).items():
        there = gpus.count(name)
        if replicas * each > there:
            return Shortage(
                field=f"{path}[{name}]", resource=name, each=each, replicas=replicas, there=there
            )
    return None


def check_gpus(spec: JobSpec, gpus: Gpus, advice: str) -> None:
    """Check that a machine has GPUs at all, if a job asks for some.

    Args:
        spec: the job.
        gpus: the GPUs of the machine.
        advice: how the limit becomes 0, with `{field}` for its field.

    Raises:
        InvalidSpec: it has none.
    """
    lacks = shortage(spec, gpus)
    if lacks is not None and not lacks.there:
        sentence = f"must be 0 on this machine, which has no {lacks.resource}, got {lacks.each}"
        how = advice.format(field=lacks.field)
        raise InvalidSpec(lacks.field, f"{sentence}: {how} trains on the CPU")
