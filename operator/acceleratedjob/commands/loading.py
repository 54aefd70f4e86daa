"""Reads an AcceleratedJob from a YAML file, as strictly as `kubectl apply` does."""

import json
from pathlib import Path
from typing import Any

import yaml

from acceleratedjob.api.bounds import MAX_DEPTH, excess
from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.api.schema import anything, check_known, mapping, mapping_of, partly, string
from acceleratedjob.errors import InvalidSpec

_TOP_LEVEL = dict.fromkeys(("apiVersion", "kind", "metadata", "spec", "status"))
_OTHERS = (  # fields that `kubectl get -o yaml` prints
    *("generateName", "uid", "resourceVersion", "generation", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "finalizers", "ownerReferences"),
    *("managedFields", "selfLink"),
)
_STRINGS = mapping_of(string)
_METADATA = partly(
    {"name": string, "namespace": string, "labels": _STRINGS, "annotations": _STRINGS}
    | dict.fromkeys(_OTHERS, anything),
    required=["name"],
    whole=True,
)


def load(path: Path) -> Manifest:
    """Read the AcceleratedJob in a file.

    Raises:
        InvalidSpec: the file is not YAML or does not contain exactly one job, or a field outside
            of `spec` is unknown.
    """
    document = _only_document(path)
    _check_json(document)
    manifest: Manifest = dict(mapping(document, "manifest"))
    check_known(manifest, _TOP_LEVEL, "")
    _METADATA(manifest.get("metadata") or {}, "metadata")
    return manifest


def _check_json(document: object) -> None:
    """Check that a value can be written as JSON: no dates, no NaN, string keys, no cycles."""
    sentence = excess(document)
    if sentence is not None:
        raise InvalidSpec("manifest", sentence)
    try:
        json.dumps(document, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidSpec("manifest", f"must only have values that JSON has: {error}") from error


def _only_document(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        documents = [doc for doc in yaml.load_all(text, _Strict) if doc is not None]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidSpec("manifest", f"cannot be read: {error}") from error
    except RecursionError as error:
        sentence = f"must be nested at most {MAX_DEPTH} levels deep, and is nested deeper"
        raise InvalidSpec("manifest", sentence) from error
    if len(documents) != 1:
        raise InvalidSpec("manifest", f"must be one {KIND}, got {len(documents)} documents")
    if not isinstance(documents[0], dict):
        found = f"a {type(documents[0]).__name__}: {str(documents[0])[:60]!r}"
        raise InvalidSpec("manifest", f"must be an {KIND} as a YAML mapping, got {found}")
    return documents[0]


class _Strict(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys, as kubectl does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping.

        Raises:
            yaml.YAMLError: a key occurs twice.
        """
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        built: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return built
