"""Reports on the file of a manifest: the jobs, what is wrong with them, and what may surprise."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.validation import check, hints, scalars, source
from acceleratedjob.validation.check import Check
from acceleratedjob.validation.nodes import Node
from acceleratedjob.validation.source import START, Fault

MAX_WARNINGS = 20
_LISTS = ("List", f"{KIND}List")  # as kubectl and the API server print them
Edit = Callable[[Manifest], Manifest]  # raises InvalidSpec


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a file, or in one document of it.

    Attributes:
        jobs: the jobs, changed as asked; one that is no mapping is left out.
        others: the objects of other kinds.
        faults: what is wrong, in the order of the text.
        warnings: valid values that YAML reads otherwise than they look, in the order of the text.
    """

    jobs: tuple[Manifest, ...] = ()
    others: tuple[Manifest, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


def of_file(data: bytes, *checks: Check, edit: Edit | None = None) -> Report:
    """Report on a file, which must contain a job.

    Args:
        data: the bytes of the file.
        checks: further checks of a job that is valid.
        edit: changes a job before it is checked; a field that it adds gets the place of what it is
            added to.
    """
    text = source.read(data)
    found = list(_flat(text.documents))
    jobs = [one for one in found if len(found) == 1 or not _is_other(one)]
    others = tuple(one.value for one in found if one not in jobs)
    reports = [_of_job(one, checks, edit) for one in jobs]
    faults = (*text.faults, *chain.from_iterable(one.faults for one in reports))
    return Report(
        jobs=tuple(chain.from_iterable(one.jobs for one in reports)),
        others=others,
        faults=_sorted(faults) or (() if jobs else (_no_job(others),)),
        warnings=tuple(chain.from_iterable(one.warnings for one in reports)),
    )


def _of_job(document: Node, checks: tuple[Check, ...], edit: Edit | None) -> Report:
    value = document.value
    if not isinstance(value, dict):
        return Report(faults=(_no_mapping(document),))
    try:
        changed = value if edit is None else edit(value)
    except InvalidSpec as error:
        return Report(faults=(_placed(document, error),))
    find = partial(check.faults, checks=checks)
    told = find(changed)
    if edit is None:
        told = list(hints.advised(document, told, find))
    faults = _ordered(tuple(_placed(document, fault) for fault in told))
    warnings = tuple(islice(_surprises(document, faults), MAX_WARNINGS))
    return Report(jobs=(changed,), faults=faults, warnings=warnings)


def _flat(documents: tuple[Node, ...]) -> Iterator[Node]:
    """Yield the documents, and the items of lists, as `kubectl get -o yaml` prints them."""
    for one in documents:
        items = one.children.get("items") if _kind(one) in _LISTS else None
        is_list = items is not None and isinstance(items.value, list)
        yield from items.children.values() if items is not None and is_list else [one]


def _kind(document: Node) -> object:
    return document.value.get("kind") if isinstance(document.value, dict) else None


def _is_other(document: Node) -> bool:
    """Whether a document is an object of another kind, rather than a job with a mistake."""
    kind = _kind(document)
    has_version = isinstance(document.value, dict) and isinstance(
        document.value.get("apiVersion"), str
    )
    return has_version and isinstance(kind, str) and kind != KIND


def _placed(document: Node, fault: InvalidSpec) -> Fault:
    """Add the place of a field; that of a missing one is the place of the mapping that lacks it."""
    return Fault(document.find(fault.field).place, fault.field, fault.message)


def _ordered(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Return the faults in the order of the text; of two about one field, the first one."""
    by_field: dict[str, Fault] = {}
    for fault in faults:
        by_field.setdefault(fault.field, fault)
    return _sorted(tuple(by_field.values()))


def _sorted(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.place))


def _no_mapping(document: Node) -> Fault:
    found = f"a {type(document.value).__name__}: {str(document.value)[:60]!r}"
    return Fault(document.place, "manifest", f"must be an {KIND} as a YAML mapping, got {found}")


def _no_job(others: tuple[Manifest, ...]) -> Fault:
    kinds = ", ".join(one["kind"] for one in others) or "no documents"
    return Fault(START, "manifest", f"must have one {KIND}, got {kinds}")


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
