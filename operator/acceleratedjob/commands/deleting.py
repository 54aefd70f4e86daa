"""`acceleratedjob delete`: deletes jobs, and says what is kept of them."""

from collections.abc import Sequence
from dataclasses import replace

from acceleratedjob.api import names as api
from acceleratedjob.api.checkpoint import DELETE, read_checkpoint
from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.errors import Misuse
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.terminal import say


async def delete(session: Session, *, names: Sequence[str], force: bool) -> int:
    """Delete jobs, print what is kept of each, and return the exit code.

    Args:
        session: the namespace.
        names: the names of the jobs.
        force: whether to delete jobs whose pods run.

    Raises:
        Misuse: pods of a job run, and `force` is False; nothing was deleted.
        NotFound: a job does not exist; nothing was deleted.
    """
    jobs = [await replace(session, name=name).read() for name in dict.fromkeys(names)]
    running = [job["metadata"]["name"] for job in jobs if _runs(job)]
    if running and not force:
        stop = replace(session, name=running[0]).hint("stop")
        raise Misuse(
            f"pods of {', '.join(running)} run: {stop} ends a job so that it can go on; to delete "
            "it nevertheless, use --force"
        )
    for job in jobs:
        metadata = job["metadata"]
        ref = Ref(api.KIND, session.namespace, metadata["name"])
        await session.cluster.delete(ref, uid=metadata["uid"])
        say(f"{metadata['name']} is deleted{_kept(job)}")
    return 0


def _runs(job: View) -> bool:
    """Whether pods of a job run that have not finished."""
    status = Status.from_manifest(job)
    return not status.finished and status.replicas > 0


def _kept(job: View) -> str:
    """Return what is kept of a job."""
    given = job["spec"].get("checkpoint")
    if given is None:
        return ""
    try:
        checkpoint = read_checkpoint(given, "spec.checkpoint")
    except InvalidSpec:  # no attempt has written any
        return ""
    place = checkpoint.address(job["metadata"]["name"], job["metadata"]["uid"])
    if checkpoint.reclaim_policy == DELETE:
        return f", and so is the volume of its checkpoints, {place}"
    return f"; its checkpoints are kept: {place}"
