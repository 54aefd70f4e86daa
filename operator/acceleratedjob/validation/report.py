"""Reports on a manifest: the job, what is wrong with it, and what may surprise."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.validation import check, hints, scalars, source
from acceleratedjob.validation.check import Check
from acceleratedjob.validation.nodes import Node
from acceleratedjob.validation.source import START, Fault

MAX_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a file.

    Attributes:
        manifest: the only document; None if there is none, or several.
        faults: what is wrong, in the order of the text.
        warnings: valid values that YAML reads otherwise than they look, in the order of the text.
    """

    manifest: Manifest | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


def of_job(data: bytes, *checks: Check) -> Report:
    """Report on a file that must contain one job.

    Args:
        data: the bytes of the file.
        checks: further checks of a job that is valid.
    """
    found = source.read(data)
    if len(found.documents) != 1:
        return Report(None, found.faults or (_number(found.documents),))
    made = of_document(found.documents[0], *checks)
    return replace(made, faults=_ordered((*found.faults, *made.faults)))


def of_document(document: Node, *checks: Check, changed: Manifest | None = None) -> Report:
    """Report on one document of a file, which must be a job.

    Args:
        document: the document.
        checks: further checks of a job that is valid.
        changed: what is checked instead of the document, if something was set since it was read;
            a field that the document does not have gets the place of what it was set in.
    """
    value = document.value if changed is None else changed
    if not isinstance(value, dict):
        return Report(None, (_no_mapping(document),))
    find = partial(check.faults, checks=checks)
    told = find(value)
    if changed is None:
        told = list(hints.advised(document, told, find))
    faults = _ordered(tuple(_placed(document, fault) for fault in told))
    return Report(value, faults, tuple(islice(_surprises(document, faults), MAX_WARNINGS)))


def _placed(document: Node, fault: InvalidSpec) -> Fault:
    """Add the place of a field; that of a missing one is the place of the mapping that lacks it."""
    return Fault(document.find(fault.field).place, fault.field, fault.message)


def _ordered(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Return the faults in the order of the text; of two about one field, the first one."""
    by_field: dict[str, Fault] = {}
    for fault in faults:
        by_field.setdefault(fault.field, fault)
    return tuple(sorted(by_field.values(), key=lambda fault: fault.place))


def _no_mapping(document: Node) -> Fault:
    found = f"a {type(document.value).__name__}: {str(document.value)[:60]!r}"
    return Fault(document.place, "manifest", f"must be an {KIND} as a YAML mapping, got {found}")


def _number(documents: tuple[Node, ...]) -> Fault:
    place = documents[1].place if documents else START
    return Fault(place, "manifest", f"must be one {KIND}, got {len(documents)} documents")


def _surprises(document: Node, faults: tuple[Fault, ...]) -> Iterator[Fault]:
    """Yield the values that are valid, and that YAML reads otherwise than they look."""
    wrong = {document.find(fault.field).node.place for fault in faults}
    for path, node in _scalars(document, ""):
        if scalars.is_surprising(node.text or "", node.value) and node.place not in wrong:
            value = json.dumps(node.value)
            sentence = (
                f'YAML reads {node.text} as {value}: write {value}, or "{node.text}" for text'
            )
            yield Fault(node.place, path, sentence)


def _scalars(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Yield the scalars without quotes that are no text, each with its path."""
    if node.text is not None and not isinstance(node.value, str):
        yield path, node
    for key, child in node.children.items():
        inner = f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
        yield from _scalars(child, f"{path}{inner}")
