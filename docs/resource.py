"""The page of the resource: fields, defaults, bounds and rules, from its definition."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from docs.tables import table

NAME = "acceleratedjob"
ABOUT = "The AcceleratedJob: its fields, what the API server checks of them, what `kubectl` shows."
_CHARTS = Path(__file__).parents[1] / "charts"
CRD = _CHARTS / "acceleratedjob/files/acceleratedjobs.accelerated.dev.yaml"

Schema = Mapping[str, Any]


def page() -> str:
    """The whole page."""
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    about = (
        f"`{crd['spec']['group']}/{version['name']}`, kind `{names['kind']}`; for kubectl "
        f"`{names['plural']}`, `{names['singular']}` or `{names['shortNames'][0]}`. "
        "`kubectl explain acceleratedjob.spec` tells the same on a cluster."
    )
    blocks = [f"# {NAME}", about, *_section("spec", schema), *_section("status", schema)]
    blocks += ["## Columns", "What `kubectl get` shows; `-o wide` shows all."]
    blocks += [table(("column", "of", "shown"), [_column(c) for c in _columns(version)])]
    blocks += ["## Rules", "What the API server refuses, in its words."]
    blocks += ["\n".join(f"- {field}{message}" for field, message in _rules("", schema))]
    return "\n\n".join(blocks) + "\n"


def fields(path: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Each field below a path, as `elastic.minReplicas` or `rules[].action`; whether it must be."""
    for name, inner in schema.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        yield place, inner, name in schema.get("required", ())
        yield from fields(place, inner)
        yield from fields(f"{place}[]", inner.get("items", {}))


def _section(name: str, schema: Schema) -> Iterator[str]:
    section = schema["properties"][name]
    yield f"## {name}"
    yield section["description"]
    yield table(("field", "type", "default", "meaning"), list(_rows(section)))


def _rows(section: Schema) -> Iterator[tuple[str, ...]]:
    for path, schema, is_required in fields("", section):
        default = schema.get("default")
        shown = "" if default is None or isinstance(default, dict) else f"`{_text(default)}`"
        meaning = " ".join(schema.get("description", "").split())
        yield f"`{path}`", _type(schema), "required" if is_required else shown, meaning


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(schema: Schema) -> str:
    """A field's type, with what bounds it."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in schema:
        return ", ".join(f"`{_text(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f"{schema['type']}, " + (f"at least {low}" if high is None else f"{low} to {high}")
    return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def _columns(version: Schema) -> list[Schema]:
    return list(version["additionalPrinterColumns"])


def _column(column: Schema) -> tuple[str, ...]:
    wide = "with `-o wide`" if column.get("priority") else "always"
    return column["name"].upper(), f"`{column['jsonPath']}`", wide


def _rules(path: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """Where a rule of CEL stands, and its message."""
    for rule in schema.get("x-kubernetes-validations", ()):
        field = path + rule.get("fieldPath", "")
        yield (f"`{field}`: " if field else ""), rule["message"]
    for name, inner in schema.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        yield from _rules(place, inner)
        yield from _rules(f"{place}[]", inner.get("items", {}))
