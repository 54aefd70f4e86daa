"""Prints objects as YAML or JSON, as `kubectl get -o` does."""

import json
from collections.abc import Sequence
from typing import TextIO

import yaml

from acceleratedjob.api.names import View


def print_objects(objects: Sequence[View], form: str, out: TextIO) -> None:
    """Print several objects.

    Args:
        objects: the objects.
        form: `yaml` for a document for each object; `json` for a list.
        out: where they are printed.
    """
    if form == "json":
        print_object({"apiVersion": "v1", "kind": "List", "items": [*objects]}, form, out)
    else:
        yaml.safe_dump_all(objects, out, sort_keys=False)


def print_object(found: object, form: str, out: TextIO) -> None:
    """Print an object, or other data, as `yaml` or `json`; no character is a control character."""
    if form == "json":
        out.write(json.dumps(found, indent=4) + "\n")
    else:
        yaml.safe_dump(found, out, sort_keys=False)
