"""`python -m docs.pod_types`: writes the fields of pods and claims, from the `kubernetes` package.

The package takes long to import, and is not installed with the command line: its types are kept as
JSON.
"""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "operator/acceleratedjob/validation/pod_types.json"
ROOTS = (
    *("V1PodSpec", "V1ObjectMeta", "V1PersistentVolumeClaimSpec"),
    *("V1NFSVolumeSource", "V1HostPathVolumeSource", "V1CSIVolumeSource"),
)
# The package types a quantity as a string, and a whole number or a string as any object.
QUANTITIES = {"limits", "requests", "overhead", "size_limit", "divisor"}
EITHER = {"port"}
_SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_SCALARS |= {"datetime": "time", "object": "any", "bytes": "string", "bytearray": "string"}
_PREFIX = re.compile(r"^(Core)?V1(?=[A-Z])")


def types() -> dict[str, Any]:
    """Return the fields of each type: their types, and a `!` after those that are required."""
    from kubernetes.client import models  # noqa: PLC0415  # slow to import

    found: dict[str, dict[str, str]] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if _short(name) in found:
            continue
        model = getattr(models, name)
        required = _required(model)
        found[_short(name)] = {
            key: _word(field, model.openapi_types[field]) + "!" * (key in required)
            for field, key in sorted(model.attribute_map.items(), key=lambda pair: pair[1])
        }
        waiting += [inner for kind in model.openapi_types.values() for inner in _named(kind)]
    minor = version("kubernetes").split(".")[0]
    return {"version": f"1.{minor}", "types": dict(sorted(found.items()))}


def text() -> str:
    """Return the text of the file, a type in each line."""
    made = types()
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in made["types"].items()
    )
    return f'{{"version": {json.dumps(made["version"])}, "types": {{\n{lines}\n}}}}\n'


def _required(model: Any) -> set[str]:
    """Return the keys that a model must have."""
    fields = model.model_fields.items()
    return {field.serialization_alias or name for name, field in fields if field.is_required()}


def _short(name: str) -> str:
    return _PREFIX.sub("", name)


def _named(kind: str) -> Iterator[str]:
    yield from (name for name in re.findall(r"\w+", kind) if _PREFIX.match(name))


def _word(field: str, kind: str) -> str:
    """Return our notation of a type, such as [string] for a list and {string} for a mapping."""
    inside = re.fullmatch(r"(?i:list)\[(.+)\]|(?i:dict)[\[(]str, (.+)[\])]", kind)
    if inside is not None and inside[1] is not None:
        return f"[{_word(field, inside[1])}]"
    if inside is not None:
        return f"{{{_word(field, inside[2])}}}"
    if kind == "str" and field in QUANTITIES:
        return "quantity"
    if kind == "object" and field in EITHER:
        return "integer or string"
    return _SCALARS.get(kind, _short(kind))


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
