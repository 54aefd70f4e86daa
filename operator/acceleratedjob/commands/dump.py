"""`acceleratedjob dump`: prints where all ranks of a job are now."""

import asyncio

from acceleratedjob.commands.pods import RunningPod, run_module, running_pods
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import ClusterError, NotFound
from acceleratedjob.terminal import complain, say

_AT_ONCE = 16  # pods
MODULE = "runtime.dump"


async def dump(session: Session) -> int:
    """Print the stacks of all ranks, pod by pod; return the exit code.

    Raises:
        NotFound: no pod runs.
        ClusterError: no pod could be asked; otherwise, such pods are named.
    """
    job = await session.read()
    pods = await running_pods(session, job)
    if not pods:
        why = session.hint("why")
        raise NotFound(f"no pod of {session.name} runs; {why} explains the state of the job")
    turns = asyncio.Semaphore(_AT_ONCE)
    answers = await asyncio.gather(*(_asked(session, pod, turns) for pod in pods))
    errors = [one for one in answers if isinstance(one, ClusterError)]
    if len(errors) == len(answers):
        raise errors[0]
    for pod, answer in zip(pods, answers, strict=True):
        if isinstance(answer, ClusterError):
            complain(f"warning: {answer}")
        else:
            say(f"replica {pod.index} (pod {pod.name})", *answer.splitlines(), "")
    return 0


async def _asked(session: Session, pod: RunningPod, turns: asyncio.Semaphore) -> str | ClusterError:
    async with turns:
        try:
            return await run_module(session, pod, MODULE, *_whose(session, pod))
        except ClusterError as error:
            return error


def _whose(session: Session, pod: RunningPod) -> tuple[str, ...]:
    """Return the arguments that name the ranks: those below the first process of the container."""
    return ("--job", str(session.name)) if pod.is_shared else ("1",)
