"""Reads the manifests of the commands: a file or the standard input, with changes.

All commands read manifests by `Source.read`, as strictly as a cluster does.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acceleratedjob.api.names import KIND, Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.changes import Change, change
from acceleratedjob.errors import InvalidManifest, InvalidSpec
from acceleratedjob.terminal import complain
from acceleratedjob.validation import report, source
from acceleratedjob.validation.check import Check
from acceleratedjob.validation.nodes import Node
from acceleratedjob.validation.report import Report
from acceleratedjob.validation.source import START, Fault

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a manifest, of which at least one is a job.

    Attributes:
        jobs: the jobs, valid and changed as asked.
        specs: what was read of each job.
        others: the objects of other kinds.
    """

    jobs: tuple[Manifest, ...]
    specs: tuple[JobSpec, ...]
    others: tuple[Manifest, ...] = ()


def ignored(documents: Documents) -> Iterator[str]:
    """Yield a sentence about each object of another kind, which a command ignores."""
    for one in documents.others:
        yield f"{title(one)} is ignored: only `acceleratedjob submit` applies other kinds"


def title(manifest: View) -> str:
    """Return the kind and the name of an object, which may be invalid."""
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{manifest['kind']} {name or 'without a name'}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a manifest is, and what is changed in its jobs.

    Attributes:
        place: the path of a YAML file; `-` for the standard input.
        changes: the changes, in order.
    """

    place: str
    changes: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """The name of the place, for people."""
        return "standard input" if self.place == STDIN else self.place

    @property
    def folder(self) -> Path:
        """The folder of the file; for the standard input, the current one."""
        return Path() if self.place == STDIN else Path(self.place).parent

    def read(self, *checks: Check) -> Documents:
        """Read the documents, and check the jobs; tell on standard error what may surprise.

        Args:
            checks: further checks of a job that is valid.

        Raises:
            InvalidManifest: the file cannot be read, has no job, or a job is invalid.
        """
        text = source.read(self._bytes())
        found = list(_flat(text.documents))
        jobs = [one for one in found if len(found) == 1 or not _is_other(one)]
        others = tuple(one.value for one in found if one not in jobs)
        reports = [self._report(one, checks) for one in jobs]
        for one in (one for each in reports for one in each.warnings):
            place = f"{self.name}:{one.place.line}:{one.place.column}"
            complain(f"{place}: warning: {one.field}: {one.message}")
        self._must_be_sound((*text.faults, *(one for each in reports for one in each.faults)))
        if not jobs:
            kinds = ", ".join(one["kind"] for one in others) or "no documents"
            self._must_be_sound((Fault(START, "manifest", f"must have one {KIND}, got {kinds}"),))
        manifests = tuple(one.manifest for one in reports if one.manifest is not None)
        return Documents(manifests, tuple(map(JobSpec.from_manifest, manifests)), others)

    def _bytes(self) -> bytes:
        try:
            return sys.stdin.buffer.read() if self.place == STDIN else Path(self.place).read_bytes()
        except OSError as error:
            sentence = f"cannot be read: {error.strerror}"
            line = f"{self.name}: manifest: {sentence}"
            raise InvalidManifest("manifest", sentence, [line]) from error

    def _report(self, document: Node, checks: tuple[Check, ...]) -> Report:
        if not self.changes or not isinstance(document.value, dict):
            return report.of_document(document, *checks)
        try:
            changed = change(document.value, self.changes)
        except InvalidSpec as error:
            fault = Fault(document.find(error.field).place, error.field, error.message)
            return Report(None, (fault,))
        return report.of_document(document, *checks, changed=changed)

    def _must_be_sound(self, faults: tuple[Fault, ...]) -> None:
        if faults:
            raise self._invalid(tuple(sorted(faults, key=lambda fault: fault.place)))

    def _invalid(self, faults: tuple[Fault, ...]) -> InvalidManifest:
        first = faults[0]
        return InvalidManifest(first.field, first.message, [f"{self.name}:{one}" for one in faults])


def _flat(documents: tuple[Node, ...]) -> Iterator[Node]:
    """Yield the documents, and the items of lists, as `kubectl get -o yaml` prints them."""
    for one in documents:
        items = one.children.get("items") if _kind(one) == "List" else None
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
