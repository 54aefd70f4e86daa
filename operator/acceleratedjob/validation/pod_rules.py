"""The rules of the API server for pods that a type cannot say, and that manifests break most often.

The other rules are checked when the first pod is created; the status of the job then shows the
sentence of the API server.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from acceleratedjob.api import quantity
from acceleratedjob.api.names import View
from acceleratedjob.api.schema import suggestion
from acceleratedjob.errors import InvalidSpec, shown
from acceleratedjob.validation import container_rules
from acceleratedjob.validation.items import KEY, WORD, Named, items, one_source

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VALUE = re.compile(rf"({WORD})?")
_IS_LABEL = "must be lowercase letters, digits and -, at most 63 characters, got"
_IS_KEY = "a key must be letters, digits, -, _ and ., at most 63, perhaps after a domain and /, got"
_IS_VALUE = "must be letters, digits, -, _ and ., at most 63 characters, got"
_MAX_ANNOTATIONS = 256 * 1024  # bytes, all of an object


def faults(pod: View, path: str, volumes: Collection[str] = ()) -> Iterator[InvalidSpec]:
    """Yield the rules that the spec of a pod breaks, whose fields have the right types.

    Args:
        pod: the spec.
        path: its path.
        volumes: the names of the volumes that the operator adds.
    """
    own = [*items(pod, "volumes", path)]
    known = {*volumes, *(volume.get("name") for _, volume in own)}
    containers = [*items(pod, "containers", path), *items(pod, "initContainers", path)]
    yield from _names(containers)
    yield from _names(own)
    claims = {claim["name"] for _, claim in items(pod, "resourceClaims", path)}
    for at, container in containers:
        yield from _of_container(container, at, known)
        for claim_at, claim in items(container.get("resources") or {}, "claims", f"{at}.resources"):
            yield from _one_of(claim["name"], claims, f"{claim_at}.name", "resourceClaims")
    for at, volume in own:
        yield from one_source(volume, at, but=("name",))
    for at, toleration in items(pod, "tolerations", path):
        yield from _of_toleration(toleration, at)
    for at, expression in _expressions(pod.get("affinity"), f"{path}.affinity"):
        yield from _of_expression(expression, at)
    if pod.get("dnsPolicy") == "None" and not (pod.get("dnsConfig") or {}).get("nameservers"):
        yield InvalidSpec(f"{path}.dnsConfig.nameservers", "is required with the dnsPolicy None")
    yield from labels(pod.get("nodeSelector"), f"{path}.nodeSelector")


def labels(given: View | None, path: str) -> Iterator[InvalidSpec]:
    """Yield the labels, or entries of a node selector, whose key or value is invalid."""
    for name, value in (given or {}).items():
        if not KEY.fullmatch(name):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_KEY} {shown(name)}")
        elif not _VALUE.fullmatch(value or ""):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_VALUE} {shown(value)}")


def annotations(given: View | None, path: str) -> Iterator[InvalidSpec]:
    """Yield the annotations whose key is invalid; all together, if they are too large."""
    size = 0
    for name, value in (given or {}).items():
        size += len(f"{name}{value or ''}".encode())
        if not KEY.fullmatch(name.lower()):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_KEY} {shown(name)}")
    if size > _MAX_ANNOTATIONS:
        yield InvalidSpec(path, f"must have at most {_MAX_ANNOTATIONS} bytes, got {size}")


def _of_toleration(toleration: View, path: str) -> Iterator[InvalidSpec]:
    is_any = toleration.get("operator") == "Exists"
    if not toleration.get("key") and not is_any:
        sentence = "is required, or the operator Exists, which tolerates all taints"
        yield InvalidSpec(f"{path}.key", sentence)
    if is_any and toleration.get("value"):
        yield InvalidSpec(f"{path}.value", "must be absent with the operator Exists")
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield InvalidSpec(f"{path}.effect", "must be NoExecute with tolerationSeconds")


def _expressions(value: Any, path: str) -> Named:
    """Yield the expressions of all selectors in a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "matchExpressions":
                yield from items(value, name, path)
            else:
                yield from _expressions(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _expressions(inner, f"{path}[{index}]")


def _of_expression(expression: View, path: str) -> Iterator[InvalidSpec]:
    operator, has_values = expression["operator"], bool(expression.get("values"))
    if operator in ("In", "NotIn") and not has_values:
        yield InvalidSpec(f"{path}.values", f"is required with the operator {operator}")
    if operator in ("Exists", "DoesNotExist") and has_values:
        yield InvalidSpec(f"{path}.values", f"must be absent with the operator {operator}")


def _names(named: Named) -> Iterator[InvalidSpec]:
    """Check that all names are DNS labels, and differ."""
    seen: dict[str, str] = {}
    for at, item in named:
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
    yield from _mounts(container, path, volumes)
    yield from container_rules.faults(container, path)


def _mounts(container: View, path: str, volumes: set[Any]) -> Iterator[InvalidSpec]:
    """Check that each mount names a volume of the pod, and has a directory of its own."""
    seen: dict[str, str] = {}
    for at, mount in items(container, "volumeMounts", path):
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
