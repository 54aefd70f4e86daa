"""Reads the manifests of the commands: a file or the standard input, with changes.

All commands read manifests by `Source.read`, as strictly as `kubectl apply` does.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from acceleratedjob.api.names import KIND, Manifest, View
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.commands.changes import Change, change
from acceleratedjob.commands.loading import check_outside_of_spec, parse
from acceleratedjob.errors import InvalidSpec

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

    def read(self) -> Documents:
        """Read the documents, and check the jobs.

        Raises:
            InvalidSpec: the file cannot be read, has no job, or a job is invalid.
        """
        found = list(_flat(parse(self._text())))
        alone = len(found) == 1
        jobs = {i: one for i, one in enumerate(found, 1) if alone or not _is_other(one)}
        others = tuple(cast("Manifest", one) for i, one in enumerate(found, 1) if i not in jobs)
        if not jobs:
            kinds = ", ".join(one["kind"] for one in others) or "no documents"
            raise InvalidSpec("manifest", f"must have one {KIND}, got {kinds}")
        pairs = [self._job(one, "" if alone else f"document {i}: ") for i, one in jobs.items()]
        manifests, specs = zip(*pairs, strict=True)
        return Documents(manifests, specs, others)

    def _text(self) -> bytes:
        try:
            return sys.stdin.buffer.read() if self.place == STDIN else Path(self.place).read_bytes()
        except OSError as error:
            raise InvalidSpec("manifest", f"cannot be read: {error}") from error

    def _job(self, document: object, where: str) -> tuple[Manifest, JobSpec]:
        try:
            manifest = check_outside_of_spec(change(document, self.changes))
            return manifest, JobSpec.from_manifest(manifest)
        except InvalidSpec as error:
            raise InvalidSpec(f"{where}{error.field}", error.message) from error


def _flat(documents: list[object]) -> Iterator[object]:
    """Yield the documents, and the items of lists, as `kubectl get -o yaml` prints them."""
    for one in documents:
        items = one.get("items") if isinstance(one, dict) and one.get("kind") == "List" else None
        yield from items if isinstance(items, list) else [one]


def _is_other(document: object) -> bool:
    """Whether a document is an object of another kind, rather than a job with a mistake."""
    if not isinstance(document, dict):
        return False
    kind, version = document.get("kind"), document.get("apiVersion")
    return isinstance(kind, str) and isinstance(version, str) and kind != KIND
