"""Reads the manifests of the commands: a file or the standard input, with changes.

All commands read manifests by `Source.read`, as strictly as a cluster does.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.changes import Change, change
from acceleratedjob.errors import InvalidManifest
from acceleratedjob.terminal import complain
from acceleratedjob.validation import report
from acceleratedjob.validation.check import Check
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
        edit = partial(change, changes=self.changes) if self.changes else None
        found = report.of_file(self._bytes(), *checks, edit=edit)
        for one in found.warnings:
            place = f"{self.name}:{one.place.line}:{one.place.column}"
            complain(f"{place}: warning: {one.field}: {one.message}")
        if found.faults:
            raise self._invalid(found.faults)
        return Documents(found.jobs, tuple(map(JobSpec.from_manifest, found.jobs)), found.others)

    def _bytes(self) -> bytes:
        try:
            return sys.stdin.buffer.read() if self.place == STDIN else Path(self.place).read_bytes()
        except OSError as error:
            sentence = f"cannot be read: {error.strerror}"
            line = f"{self.name}: manifest: {sentence}"
            raise InvalidManifest("manifest", sentence, [line]) from error

    def _invalid(self, faults: tuple[Fault, ...]) -> InvalidManifest:
        first = faults[0]
        return InvalidManifest(first.field, first.message, [f"{self.name}:{one}" for one in faults])
