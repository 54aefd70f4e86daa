"""Checks a value against a type of Kubernetes, such as the spec of a pod.

`pod_types.json` has the types, as the `kubernetes` package has them; `python -m docs.pod_types`
writes it. A type is a word (`string`), the name of another type, `[...]` for a list of it, or
`{...}` for a mapping of texts to it. A `!` follows the type of a required field.
"""

import functools
import json
import re
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


def _mode(value: object, path: str) -> object:
    """Read the permissions of a file, which YAML reads as octal only with a 0 before them."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidSpec(path, f"must be permissions such as 0644, got {shown(value)}")
    if not 0 <= value <= _MAX_MODE:
        hint = f": write 0{value}" if re.fullmatch("[0-7]{3}", str(value)) else ""
        raise InvalidSpec(path, f"must be between 0 and 0777, which is octal, got {value}{hint}")
    return value


def _port(value: object, path: str) -> object:
    return (_PORT if isinstance(value, int) else _PORT_NAME)(value, path)


def _terms(value: object, path: str) -> object:
    return list_of(reader_of("NodeSelectorTerm"), at_least=1, at_most=_MANY)(value, path)


_MAX_MODE = 0o777
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
_PORT_NAME = text(
    r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", "a port, or a name of a-z, 0-9 and -", at_most=15
)
_ID = integer(minimum=0)  # of a user or group
_COUNT = integer(minimum=0)
_WEIGHT = integer(minimum=1, maximum=100)
_NAMESPACE = text(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", "a lowercase DNS label", at_most=63)
_INSIDE = text(r"(?!/)(?!(.*/)?\.\.(/|$))(?s:.*)", "a relative path without ..")
_NAME = text(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a lowercase DNS name", at_most=253)
_IN = ("In", "NotIn", "Exists", "DoesNotExist")
_FIELDS: dict[tuple[str, str], Reader] = {  # what the API server checks beside the type
    ("ConfigMapEnvSource", "name"): _NAME,
    ("ConfigMapKeySelector", "name"): _NAME,
    ("ConfigMapVolumeSource", "defaultMode"): _mode,
    ("ConfigMapVolumeSource", "name"): _NAME,
    ("Container", "imagePullPolicy"): _or_empty(choice("Always", "IfNotPresent", "Never")),
    ("Container", "terminationMessagePolicy"): choice("File", "FallbackToLogsOnError"),
    ("ContainerPort", "containerPort"): _PORT,
    ("ContainerPort", "hostPort"): _PORT,
    ("ContainerPort", "name"): _or_empty(_PORT_NAME),
    ("ContainerPort", "protocol"): choice("TCP", "UDP", "SCTP"),
    ("EnvVar", "name"): text(r"[ -<>-~]+", "printable ASCII without ="),
    ("HTTPGetAction", "port"): _port,
    ("HTTPGetAction", "scheme"): _or_empty(choice("HTTP", "HTTPS")),
    ("KeyToPath", "mode"): _mode,
    ("KeyToPath", "path"): _INSIDE,
    ("LabelSelectorRequirement", "operator"): choice(*_IN),
    ("NodeSelectorRequirement", "operator"): choice(*_IN, "Gt", "Lt"),
    ("NFSVolumeSource", "path"): text(r"(?s:/.*)", "an absolute path"),
    ("NodeSelector", "nodeSelectorTerms"): _terms,
    ("ObjectMeta", "namespace"): _or_empty(_NAMESPACE),
    ("PersistentVolumeClaimSpec", "accessModes"): list_of(
        choice("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
    ),
    ("PersistentVolumeClaimSpec", "storageClassName"): _or_empty(_NAME),
    ("PodResourceClaim", "resourceClaimName"): _NAME,
    ("PodResourceClaim", "resourceClaimTemplateName"): _NAME,
    ("PodSecurityContext", "fsGroup"): _ID,
    ("PodSecurityContext", "runAsGroup"): _ID,
    ("PodSecurityContext", "runAsUser"): _ID,
    ("PodSpec", "activeDeadlineSeconds"): integer(minimum=1),
    ("PodSpec", "dnsPolicy"): choice("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    ("PodSpec", "preemptionPolicy"): choice("Never", "PreemptLowerPriority"),
    ("PodSpec", "runtimeClassName"): _NAME,
    ("PodSpec", "serviceAccountName"): _or_empty(_NAME),
    ("PreferredSchedulingTerm", "weight"): _WEIGHT,
    ("Probe", "failureThreshold"): _COUNT,
    ("Probe", "initialDelaySeconds"): _COUNT,
    ("Probe", "periodSeconds"): _COUNT,
    ("Probe", "timeoutSeconds"): _COUNT,
    ("SeccompProfile", "type"): choice("RuntimeDefault", "Localhost", "Unconfined"),
    ("SecretEnvSource", "name"): _NAME,
    ("SecretKeySelector", "name"): _NAME,
    ("SecretVolumeSource", "defaultMode"): _mode,
    ("SecretVolumeSource", "secretName"): _NAME,
    ("SecurityContext", "runAsGroup"): _ID,
    ("SecurityContext", "runAsUser"): _ID,
    ("TCPSocketAction", "port"): _port,
    ("Toleration", "effect"): _or_empty(choice("NoSchedule", "PreferNoSchedule", "NoExecute")),
    ("Toleration", "operator"): _or_empty(choice("Exists", "Equal", "Lt", "Gt")),
    ("TopologySpreadConstraint", "maxSkew"): integer(minimum=1),
    ("TopologySpreadConstraint", "whenUnsatisfiable"): choice("DoNotSchedule", "ScheduleAnyway"),
    ("VolumeMount", "mountPath"): text(r"(?s:.+)", "a path"),
    ("VolumeMount", "mountPropagation"): choice("None", "HostToContainer", "Bidirectional"),
    ("VolumeMount", "subPath"): _INSIDE,
    ("WeightedPodAffinityTerm", "weight"): _WEIGHT,
}
_REQUIRED = {  # beside those of the types
    "ConfigMapEnvSource": ["name"],
    "ConfigMapKeySelector": ["name"],
    "ConfigMapVolumeSource": ["name"],
    "SecretEnvSource": ["name"],
    "SecretKeySelector": ["name"],
    "SecretVolumeSource": ["secretName"],
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
    required += _REQUIRED.get(kind, [])
    return partly(readers, required=required, whole=True)
