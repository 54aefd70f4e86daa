"""`acceleratedjob checkpoints`: lists the checkpoints of a job."""

from collections.abc import Iterator
from datetime import datetime

from acceleratedjob.api.checkpoint import MOUNT_PATH, read_checkpoint
from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import age, parse_time, utc_now
from acceleratedjob.api.training import STORAGE, Checkpoint
from acceleratedjob.commands.checkpoint_list import (
    MODULE,
    Place,
    Saved,
    print_places,
    read_places,
)
from acceleratedjob.commands.pods import RunningPod, run_module, running_pods
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


def known_place(job: View) -> Place:
    """Return the place of the checkpoints of a job, with the one that its status has."""
    status, name = Status.from_manifest(job), job["metadata"]["name"]
    given, saved = read_checkpoint(job["spec"]["checkpoint"], "spec.checkpoint"), status.checkpoint
    found = () if saved is None or saved.tier != STORAGE else (saved,)
    return Place(
        place=given.address(name, job["metadata"]["uid"]),
        checkpoints=tuple(
            Saved(name=f"checkpoint_{one.step}", step=one.step, time=one.time) for one in found
        ),
    )


async def checkpoints(session: Session, *, form: str | None = None) -> int:
    """Print the checkpoints of a job, which one of its pods lists; return the exit code.

    Args:
        session: the job.
        form: `json` or `yaml`; None for a table.

    Raises:
        ClusterError: the pod cannot be asked.
    """
    job = await session.read()
    has_place = job["spec"].get("checkpoint") is not None
    pods = await running_pods(session, job) if has_place else []
    if pods:
        print_places(await _listed(session, pods[0]), form)
    elif form is not None:
        print_places([known_place(job)] if has_place else [], form)
    elif has_place:
        say(*known(job, utc_now()))
    else:
        say(
            f"{session.name} has no spec.checkpoint: what its script saves by itself, and where, "
            "is not known"
        )
    return 0


async def _listed(session: Session, pod: RunningPod) -> list[Place]:
    text = await run_module(session, pod, MODULE, "--json")
    try:
        return read_places(text)
    except ValueError as error:
        raise ClusterError(f"pod {pod.name}: {error}") from error
