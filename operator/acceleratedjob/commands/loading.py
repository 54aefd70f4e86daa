"""Parses YAML with AcceleratedJobs, as strictly as `kubectl apply` does."""

import json
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


def parse(text: bytes) -> list[object]:
    """Return the documents of a text that are not empty.

    Raises:
        InvalidSpec: the text is not YAML, or a document has values that JSON does not have.
    """
    try:
        loaded = yaml.load_all(text.decode(), _Strict)
        documents = [one for one in loaded if one is not None]
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidSpec("manifest", f"cannot be read: {error}") from error
    except RecursionError as error:
        sentence = f"must be nested at most {MAX_DEPTH} levels deep, and is nested deeper"
        raise InvalidSpec("manifest", sentence) from error
    for one in documents:
        _check_json(one)
    return documents


def check_outside_of_spec(document: object) -> Manifest:
    """Check that a document is a mapping whose fields outside of `spec` are those of a job.

    Raises:
        InvalidSpec: it is not.
    """
    if not isinstance(document, dict):
        found = f"a {type(document).__name__}: {str(document)[:60]!r}"
        raise InvalidSpec("manifest", f"must be an {KIND} as a YAML mapping, got {found}")
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
