"""`acceleratedjob checkpoints`: lists the checkpoints of a job."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api.checkpoint import MOUNT_PATH, read_checkpoint
from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age, parse_time, utc_now
from acceleratedjob.api.training import Checkpoint
from acceleratedjob.commands.checkpoint_list import MODULE, read_places, report
from acceleratedjob.commands.pods import run_module, running_pods
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import ClusterError
from acceleratedjob.terminal import say


def known(job: View, now: datetime) -> Iterator[str]:
    """Yield what is known of the checkpoints while no pod of the job runs."""
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    given = read_checkpoint(job["spec"]["checkpoint"], "spec.checkpoint")
    place = given.address(name, job["metadata"]["uid"])
    yield place if given.uri else f"{place.removeprefix(MOUNT_PATH + '/')} in its volume"
    yield f"  {_newest(status.checkpoint, now)}"
    if given.uri:
        yield f"  to list them: acceleratedjob checkpoints --folder {place}"
    else:
        yield (
            "  no pod runs that has the volume: resume the job, or mount the volume in another pod "
            "whose image has the runtime, and run there: python -m runtime.checkpoints DIRECTORY"
        )


def _newest(saved: Checkpoint | None, now: datetime) -> str:
    if saved is None:
        return "no checkpoint of it is known"
    ago = age((now - parse_time(saved.time)).total_seconds())
    return f"the newest known one: step {saved.step}, written {ago} ago, on {saved.tier}"


async def checkpoints(session: Session) -> int:
    """Print the checkpoints of a job, which one of its pods lists; return the exit code.

    Raises:
        ClusterError: the pod cannot be asked.
    """
    job = await session.read()
    if job["spec"].get("checkpoint") is None:
        say(
            f"{session.name} has no spec.checkpoint: what its script saves by itself, and where, "
            "is not known"
        )
        return 0
    pods = await running_pods(session, job)
    if not pods:
        say(*known(job, utc_now()))
        return 0
    text = await run_module(session, pods[0], MODULE, "--json")
    try:
        say(*report(read_places(text), utc_now()))
    except ValueError as error:
        raise ClusterError(f"pod {pods[0].name}: {error}") from error
    return 0
