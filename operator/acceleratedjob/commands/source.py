"""Reads the manifests of the commands: a file or the standard input, with changes.

All commands read manifests by `Source.read`, as strictly as a cluster does.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.changes import Change, change
from acceleratedjob.errors import InvalidManifest
from acceleratedjob.terminal import complain
from acceleratedjob.validation import report
from acceleratedjob.validation.check import Check
from acceleratedjob.validation.report import Report
from acceleratedjob.validation.source import Fault

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
        data = self._bytes()
        found = self._report(data, checks)
        for one in found.warnings:
            place = f"{self.name}:{one.place.line}:{one.place.column}"
            complain(f"{place}: warning: {one.field}: {one.message}")
        if found.faults:
            raise self._invalid(self._advised(fault, data, checks) for fault in found.faults)
        return Documents(found.jobs, tuple(map(JobSpec.from_manifest, found.jobs)), found.others)

    def _bytes(self) -> bytes:
        try:
            return sys.stdin.buffer.read() if self.place == STDIN else Path(self.place).read_bytes()
        except OSError as error:
            sentence = f"cannot be read: {error.strerror}"
            line = f"{self.name}: manifest: {sentence}"
            raise InvalidManifest("manifest", sentence, [line]) from error

    def _report(self, data: bytes, checks: tuple[Check, ...], *more: Change) -> Report:
        changes = (*self.changes, *more)
        edit = partial(change, changes=changes) if changes else None
        return report.of_file(data, *checks, edit=edit)

    def _advised(self, fault: Fault, data: bytes, checks: tuple[Check, ...]) -> Fault:
        """Advise quotes for a value that was set, if the field takes the text as it was typed."""
        for one in self.changes:
            if (meant := one.as_text) is None:
                continue
            left = {other.field for other in self._report(data, checks, meant).faults}
            if fault.field not in left:
                return replace(fault, message=f"{fault.message}: for text write {one.quoted}")
        return fault

    def _invalid(self, found: Iterable[Fault]) -> InvalidManifest:
        faults = tuple(found)
        lines = [f"{self.name}:{one}" for one in faults]
        return InvalidManifest(faults[0].field, faults[0].message, lines)
