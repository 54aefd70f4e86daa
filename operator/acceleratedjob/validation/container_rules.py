"""The rules of the API server for containers that a type cannot say: ports, sources and devices."""

from collections.abc import Iterator
from itertools import chain

from acceleratedjob.api import quantity
from acceleratedjob.api.names import View
from acceleratedjob.errors import InvalidSpec, shown
from acceleratedjob.validation.items import KEY, items, one_source

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "grpc", "httpGet", "sleep", "tcpSocket")
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_IS_RESOURCE = (
    f"must be {', '.join(_RESOURCES)}, hugepages-SIZE, or have a domain, such as nvidia.com/gpu, "
    "got"
)


def faults(container: View, path: str) -> Iterator[InvalidSpec]:
    """Yield the rules that a container breaks, whose fields have the right types."""
    yield from _ports(container, path)
    yield from _variables(container, path)
    yield from _handlers(container, path)
    resources = container.get("resources") or {}
    for name in ("limits", "requests"):
        yield from _resources(resources.get(name) or {}, f"{path}.resources.{name}")
    yield from _amounts(resources, f"{path}.resources")


def _ports(container: View, path: str) -> Iterator[InvalidSpec]:
    """Check that the names of ports differ."""
    seen: dict[str, str] = {}
    for at, port in items(container, "ports", path):
        name = port.get("name")
        if name in seen:
            sentence = f"must differ from {seen[name]}.name, got {shown(name)}"
            yield InvalidSpec(f"{at}.name", sentence)
        if name:
            seen.setdefault(name, at)


def _variables(container: View, path: str) -> Iterator[InvalidSpec]:
    for at, variable in items(container, "env", path):
        if variable.get("value") and variable.get("valueFrom"):
            yield InvalidSpec(f"{at}.valueFrom", "must be absent beside value: remove one of them")
        if variable.get("valueFrom") is not None:
            yield from one_source(variable["valueFrom"], f"{at}.valueFrom", is_needed=True)
    for at, variables in items(container, "envFrom", path):
        yield from one_source(variables, at, but=("prefix",), is_needed=True)


def _handlers(container: View, path: str) -> Iterator[InvalidSpec]:
    """Check that each probe and hook does one thing, such as httpGet."""
    lifecycle = container.get("lifecycle") or {}
    hooks = ((f"lifecycle.{name}", hook) for name, hook in lifecycle.items() if name[0] == "p")
    for name, handler in chain(((name, container.get(name)) for name in _PROBES), hooks):
        if handler is not None:
            others = tuple(key for key in handler if key not in _HANDLERS)
            at = f"{path}.{name}"
            yield from one_source(handler, at, but=others, is_needed=True, what="handler")


def _resources(amounts: View, path: str) -> Iterator[InvalidSpec]:
    """Check the names of resources, and that no device is shared."""
    for name, amount in amounts.items():
        is_known = name in _RESOURCES or name.startswith("hugepages-")
        if not is_known and not ("/" in name and KEY.fullmatch(name)):
            yield InvalidSpec(f"{path}[{name}]", f"{_IS_RESOURCE} {shown(name)}")
        elif _is_extended(name) and amount is not None and quantity.parse(amount) % 1:
            yield InvalidSpec(f"{path}[{name}]", f"must be a whole number, got {shown(amount)}")


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
