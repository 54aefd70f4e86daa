"""Checks a value against a type of Kubernetes, such as the spec of a pod.

`pod_types.json` has the types, as the `kubernetes` package has them; `python -m docs.pod_types`
writes it. A type is a word (`string`), the name of another type, `[...]` for a list of it, or
`{...}` for a mapping of texts to it. A `!` follows the type of a required field.
"""

import functools
import json
from importlib.resources import files
from typing import Any

from acceleratedjob.api.schema import (
    Reader,
    anything,
    boolean,
    choice,
    integer,
    list_of,
    mapping_of,
    number,
    partly,
    string,
    text,
)
from acceleratedjob.api.template import read_quantity
from acceleratedjob.errors import InvalidSpec, shown

_MANY = 2**31


def _or_empty(reader: Reader) -> Reader:
    return lambda value, path: value if value == "" else reader(value, path)


_WHOLE = integer(minimum=-(2**63), maximum=2**63 - 1)


def _whole_or_text(value: object, path: str) -> object:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise InvalidSpec(path, f"must be a whole number or a string, got {shown(value)}")
    return value


_WORDS: dict[str, Reader] = {
    "any": anything,
    "boolean": boolean,
    "integer": _WHOLE,
    "integer or string": _whole_or_text,
    "number": number(minimum=-(2**63), maximum=2**63),
    "quantity": read_quantity,
    "string": string,
    "time": string,
}
_PORT = integer(minimum=1, maximum=65535)
_NAME = text(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a lowercase DNS name", at_most=253)
_IN = ("In", "NotIn", "Exists", "DoesNotExist")
_FIELDS: dict[tuple[str, str], Reader] = {  # what the API server checks beside the type
    ("Container", "imagePullPolicy"): choice("Always", "IfNotPresent", "Never"),
    ("Container", "terminationMessagePolicy"): choice("File", "FallbackToLogsOnError"),
    ("ContainerPort", "containerPort"): _PORT,
    ("ContainerPort", "hostPort"): _PORT,
    ("ContainerPort", "protocol"): choice("TCP", "UDP", "SCTP"),
    ("LabelSelectorRequirement", "operator"): choice(*_IN),
    ("NodeSelectorRequirement", "operator"): choice(*_IN, "Gt", "Lt"),
    ("PersistentVolumeClaimSpec", "storageClassName"): _or_empty(_NAME),
    ("PodResourceClaim", "resourceClaimName"): _NAME,
    ("PodResourceClaim", "resourceClaimTemplateName"): _NAME,
    ("PodSpec", "dnsPolicy"): choice("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    ("PodSpec", "preemptionPolicy"): choice("Never", "PreemptLowerPriority"),
    ("PodSpec", "runtimeClassName"): _NAME,
    ("PodSpec", "serviceAccountName"): _or_empty(_NAME),
    ("SeccompProfile", "type"): choice("RuntimeDefault", "Localhost", "Unconfined"),
    ("Toleration", "effect"): _or_empty(choice("NoSchedule", "PreferNoSchedule", "NoExecute")),
    ("Toleration", "operator"): _or_empty(choice("Exists", "Equal", "Lt", "Gt")),
    ("TopologySpreadConstraint", "whenUnsatisfiable"): choice("DoNotSchedule", "ScheduleAnyway"),
}


@functools.cache
def table() -> dict[str, Any]:
    """Return the version of Kubernetes, and the fields of each type."""
    text = files(__package__).joinpath("pod_types.json").read_text(encoding="utf-8")
    made: dict[str, Any] = json.loads(text)
    return made


@functools.cache
def reader_of(kind: str) -> Reader:
    """Return the reader of a type.

    >>> reader_of("[KeyToPath]")([{"key": "a", "path": "b", "mod": 1}], "items")
    Traceback (most recent call last):
    acceleratedjob.errors.InvalidSpec: items[0].mod: is not a field of items[0]; did you mean mode?
    """
    if kind in _WORDS:
        return _WORDS[kind]
    if kind[0] == "[":
        return list_of(reader_of(kind[1:-1]), at_most=_MANY)
    if kind[0] == "{":
        return mapping_of(reader_of(kind[1:-1]))
    fields: dict[str, str] = table()["types"][kind]
    readers = {
        name: _FIELDS.get((kind, name)) or reader_of(inner.rstrip("!"))
        for name, inner in fields.items()
    }
    required = [name for name, inner in fields.items() if inner.endswith("!")]
    return partly(readers, required=required, whole=True)
