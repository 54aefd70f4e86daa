"""`acceleratedjob submit`: creates or changes the jobs of a manifest, and what else it has."""

import sys
from dataclasses import replace

from acceleratedjob.api.names import KIND, Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.session import Session
from acceleratedjob.commands.source import Documents, title
from acceleratedjob.commands.watching import display, watch
from acceleratedjob.errors import Conflict, InvalidSpec, NotFound
from acceleratedjob.kube.apply import apply, path_of
from acceleratedjob.kube.cluster import path
from acceleratedjob.terminal import say

_KEPT = ("name", "labels", "annotations")  # of the metadata; the API server sets the rest


async def submit(
    session: Session, *, documents: Documents, dry_run: bool = False, follow: bool = False
) -> int:
    """Apply the objects of a manifest, the jobs last, and return the exit code.

    Args:
        session: the namespace.
        documents: the objects.
        dry_run: whether all is checked, and nothing stored.
        follow: whether the only job is followed until it has finished.

    Raises:
        Misuse: a job has finished, or is of another namespace; or several are to be followed.
        ClusterError: the API server rejects an object.
    """
    if follow and (dry_run or len(documents.jobs) > 1):
        raise Misuse("--watch follows one job that is created, not several and no --dry-run")
    for one in (*documents.others, *documents.jobs):
        _check_identity(one, session.namespace)
    for one in documents.others:
        say(await _other(one, session, dry_run=dry_run))
    for one in documents.jobs:
        say(await _job(one, session, dry_run=dry_run))
    single = replace(session, name=documents.specs[0].name)
    if follow:
        return await watch(single, display(sys.stdout, namespaces=False))
    if not dry_run:
        say(f"  {single.hint('status', '--watch')} follows it")
    return 0


def _check_identity(manifest: Manifest, namespace: str) -> None:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise InvalidSpec("metadata.name", f"is required, {title(manifest)}")
    given = metadata.get("namespace")
    if given not in (None, namespace):
        raise Misuse(
            f"{title(manifest)} is of the namespace {given}, and the command is about "
            f"{namespace}: set -n {given}"
        )


async def _other(manifest: Manifest, session: Session, *, dry_run: bool) -> str:
    """Apply an object of another kind, and return a sentence about it."""
    connection = session.cluster.connection
    place = await path_of(connection, manifest, session.namespace)
    await apply(connection, place, manifest, dry_run=dry_run)
    return f"{title(manifest)} {'would be' if dry_run else 'is'} applied"


async def _job(manifest: Manifest, session: Session, *, dry_run: bool) -> str:
    """Apply a job, and return a sentence about it."""
    single = replace(session, name=manifest["metadata"]["name"])
    before = await _existing(single)
    place = path(Ref(KIND, session.namespace, manifest["metadata"]["name"]))
    try:
        after = await apply(single.cluster.connection, place, _sent(manifest), dry_run=dry_run)
    except Conflict as error:
        sentence = "apply it as it was applied before, or delete the job first"
        raise Conflict(f"{error}; {sentence}") from error
    return f"{KIND} {single.name} {'would be' if dry_run else 'is'} {_done(before, after)}"


def _sent(manifest: Manifest) -> Manifest:
    """Return what to apply of a manifest, which may be the output of `kubectl get`."""
    metadata = {name: manifest["metadata"][name] for name in _KEPT if name in manifest["metadata"]}
    kept = {name: value for name, value in manifest.items() if name != "status"}
    return kept | {"metadata": metadata}


def _done(before: Manifest | None, after: Manifest) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "changed"


async def _existing(session: Session) -> Manifest | None:
    """Return the job of the name.

    Raises:
        Misuse: it has finished, so that a change would have no effect.
    """
    try:
        found = dict(await session.read())
    except NotFound:
        return None
    status = Status.from_manifest(found)
    if status.finished:
        raise Misuse(
            f"{session.name} has finished ({status.phase}), and does not run again: give the job "
            f"another name, or delete it first by {session.hint('delete')}"
        )
    return found
