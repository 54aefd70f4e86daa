"""The rules of the API server for pods that a type cannot say, and that manifests break most often.

The other rules are checked when the first pod is created; the status of the job then shows the
sentence of the API server.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from acceleratedjob.api import quantity
from acceleratedjob.api.names import View
from acceleratedjob.api.schema import suggestion
from acceleratedjob.errors import InvalidSpec, shown

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_WORD}")
_VALUE = re.compile(rf"({_WORD})?")
_IS_LABEL = "must be lowercase letters, digits and -, at most 63 characters, got"
_IS_KEY = "a key must be letters, digits, -, _ and ., at most 63, perhaps after a domain and /, got"
_IS_VALUE = "must be letters, digits, -, _ and ., at most 63 characters, got"
Named = Iterable[tuple[str, View]]  # paths and what is there


def faults(pod: View, path: str, volumes: Collection[str] = ()) -> Iterator[InvalidSpec]:
    """Yield the rules that the spec of a pod breaks, whose fields have the right types.

    Args:
        pod: the spec.
        path: its path.
        volumes: the names of the volumes that the operator adds.
    """
    own = [*_items(pod, "volumes", path)]
    known = {*volumes, *(volume.get("name") for _, volume in own)}
    containers = [*_items(pod, "containers", path), *_items(pod, "initContainers", path)]
    yield from _names(containers)
    yield from _names(own)
    claims = {claim["name"] for _, claim in _items(pod, "resourceClaims", path)}
    for at, container in containers:
        yield from _of_container(container, at, known)
        for claim_at, claim in _items(
            container.get("resources") or {}, "claims", f"{at}.resources"
        ):
            yield from _one_of(claim["name"], claims, f"{claim_at}.name", "resourceClaims")
    for at, volume in own:
        yield from _one_source(volume, at, but="name")
    yield from labels(pod.get("nodeSelector"), f"{path}.nodeSelector")


def labels(given: View | None, path: str) -> Iterator[InvalidSpec]:
    """Yield the labels, or entries of a node selector, whose key or value is invalid."""
    for name, value in (given or {}).items():
        if not _KEY.fullmatch(name):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_KEY} {shown(name)}")
        elif not _VALUE.fullmatch(value or ""):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_VALUE} {shown(value)}")


def _items(owner: View, name: str, path: str) -> Named:
    for index, item in enumerate(owner.get(name) or ()):
        yield f"{path}.{name}[{index}]", item


def _names(items: Named) -> Iterator[InvalidSpec]:
    """Check that all names are DNS labels, and differ."""
    seen: dict[str, str] = {}
    for at, item in items:
        name = item["name"]
        if not _LABEL.fullmatch(name):
            yield InvalidSpec(f"{at}.name", f"{_IS_LABEL} {shown(name)}")
        if name in seen:
            yield InvalidSpec(
                f"{at}.name", f"must differ from {seen[name]}.name, got {shown(name)}"
            )
        seen.setdefault(name, at)


def _of_container(container: View, path: str, volumes: set[Any]) -> Iterator[InvalidSpec]:
    if not container.get("image"):
        sentence = "is required: a cluster pulls it (`acceleratedjob run` does not use it)"
        yield InvalidSpec(f"{path}.image", sentence)
    elif container["image"] != container["image"].strip():
        sentence = f"must not begin or end with white space, got {shown(container['image'])}"
        yield InvalidSpec(f"{path}.image", sentence)
    for at, variable in _items(container, "env", path):
        if variable.get("value") and variable.get("valueFrom"):
            yield InvalidSpec(f"{at}.valueFrom", "must be absent beside value: remove one of them")
        if variable.get("valueFrom") is not None:
            yield from _one_source(variable["valueFrom"], f"{at}.valueFrom")
    yield from _mounts(container, path, volumes)
    yield from _amounts(container.get("resources") or {}, f"{path}.resources")


def _mounts(container: View, path: str, volumes: set[Any]) -> Iterator[InvalidSpec]:
    """Check that each mount names a volume of the pod, and has a directory of its own."""
    seen: dict[str, str] = {}
    for at, mount in _items(container, "volumeMounts", path):
        name, place = mount["name"], mount["mountPath"]
        yield from _one_of(name, volumes, f"{at}.name", "volumes")
        if place in seen:
            yield InvalidSpec(
                f"{at}.mountPath", f"must differ from {seen[place]}.mountPath, got {shown(place)}"
            )
        seen.setdefault(place, at)


def _one_of(name: str, known: Collection[str], path: str, field: str) -> Iterator[InvalidSpec]:
    """Check that a list of the pod has a name."""
    if name not in known:
        hint = suggestion(name, known) or f": add it to spec.template.spec.{field}"
        yield InvalidSpec(path, f"must be one of the pod's {field}, got {shown(name)}{hint}")


def claim_faults(claim: View, path: str) -> Iterator[InvalidSpec]:
    """Yield the rules that the spec of a claim breaks, whose fields have the right types."""
    at, requests = (
        f"{path}.resources.requests.storage",
        (claim.get("resources") or {}).get("requests"),
    )
    size = (requests or {}).get("storage")
    if size is None:
        yield InvalidSpec(at, "is required: the size, such as 100Gi")
    elif quantity.parse(size) <= 0:
        yield InvalidSpec(at, f"must be above 0, got {shown(size)}")


def _amounts(resources: View, path: str) -> Iterator[InvalidSpec]:
    """Check that no request is above its limit, and that those of devices are equal."""
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        if amount is None or limits.get(name) is None:
            if amount is not None and _is_extended(name):
                yield InvalidSpec(f"{path}.requests[{name}]", "needs the same amount in limits")
            continue
        asked, most = quantity.parse(amount), quantity.parse(limits[name])
        if asked > most or (_is_extended(name) and asked != most):
            relation = "equal to" if _is_extended(name) else "at most"
            sentence = f"must be {relation} the limit ({limits[name]}), got {shown(amount)}"
            yield InvalidSpec(f"{path}.requests[{name}]", sentence)


def _is_extended(name: str) -> bool:
    """Whether a resource is a device or the like, whose request is its limit."""
    return "/" in name and "kubernetes.io/" not in name


def _one_source(owner: View, path: str, but: str = "") -> Iterator[InvalidSpec]:
    """Check that one field at most is set, beside one that is no source."""
    found = [name for name, value in owner.items() if value is not None and name != but]
    if len(found) > 1:
        sentence = f"must have one source, got {' and '.join(found)}: remove all but one"
        yield InvalidSpec(path, sentence)
