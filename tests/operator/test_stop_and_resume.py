"""`acceleratedjob stop` and `resume`: what is asked of the cluster, waited for, and said."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.cli.command import code_of
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.errors import Misuse, NotDone
from acceleratedjob.commands.session import Session
from acceleratedjob.commands.stopping import (
    has_trained,
    resume,
    resumed,
    stop,
    stopped,
)
from acceleratedjob.errors import NotFound, Refused
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.observe.stops import is_at_rest, loss_of_a_stop
from tests.operator.apiserver import ApiServer, merge
from tests.operator.builders import NOW, ago, job

STORE = {"uri": "s3://bucket/team"}
UP = {"phase": "Running", "readyTime": format_time(ago(3700)), "observedGeneration": 1}
AT = UP | {"progress": {"step": 540, "totalSteps": 1080, "attempt": 0}}
IDLE = {"phase": "Suspended", "observedGeneration": 2, "attempt": 1}
SAVED: dict[str, Any] = {
    "checkpoint": {"step": 500, "tier": "storage", "time": format_time(ago(12))}
}
DONE = {"type": "Complete", "status": "True", "reason": "Succeeded"}
FAILED = {"type": "Failed", "status": "True", "reason": "X"}
WHOLE: dict[str, Any] = {"checkpoint": SAVED["checkpoint"] | {"step": 540}}


def made(status: dict[str, Any], generation: int = 1, **spec: Any) -> Manifest:
    """A job of a generation, with a status."""
    found = job(**spec) | {"status": status}
    found["metadata"] |= {"generation": generation, "creationTimestamp": format_time(ago(4000))}
    return found


@pytest.mark.parametrize(
    ("found", "loss"),
    [
        pytest.param(made(AT, checkpoint=STORE), None, id="it has checkpoints"),
        pytest.param(made({"phase": "Pending"}), None, id="it does not train yet"),
        pytest.param(made(AT), "the training so far, 1h1m and 540 steps", id="it trains"),
        pytest.param(made(UP), "the training so far, 1h1m", id="its steps are not known"),
    ],
)
def test_what_a_stop_loses(found: Manifest, loss: str | None) -> None:
    told = loss_of_a_stop(found, NOW)
    assert (told is None) == (loss is None)
    assert loss is None or (told is not None and told.endswith(f"a stop loses {loss}"))


@pytest.mark.parametrize(
    ("found", "rests"),
    [
        pytest.param(made(IDLE, 2), True, id="no pods"),
        pytest.param(made(IDLE | {"observedGeneration": 1}, 2), False, id="an earlier suspension"),
        pytest.param(made(IDLE | {"terminating": 1}, 2), False, id="a pod that ends"),
        pytest.param(made(AT, 2), False, id="the operator has not seen it"),
        pytest.param(made({"conditions": [DONE]}, 2), True, id="it has finished instead"),
    ],
)
def test_when_a_job_is_at_rest(found: Manifest, rests: bool) -> None:
    assert is_at_rest(found) is rests


def training(step: int, attempt: int = 1, **status: Any) -> Manifest:
    return made(
        {"attempt": 1, "observedGeneration": 3, "progress": {"step": step, "attempt": attempt}}
        | status,
        3,
    )


@pytest.mark.parametrize(
    ("found", "trained"),
    [
        pytest.param(training(541, **WHOLE), True, id="a step behind the checkpoint"),
        pytest.param(training(540, **WHOLE), True, id="a newer checkpoint is of this attempt"),
        pytest.param(training(1), True, id="the first step without a checkpoint"),
        pytest.param(training(0), False, id="none yet"),
        pytest.param(training(540, 0, **WHOLE), False, id="the numbers of the attempt before"),
        pytest.param(training(9, observedGeneration=2), False, id="before it was resumed"),
        pytest.param(training(0, conditions=[DONE]), True, id="it has finished"),
    ],
)
def test_when_a_job_trains_again(found: Manifest, trained: bool) -> None:
    assert has_trained(found) is trained


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        pytest.param(
            made(AT | WHOLE, checkpoint=STORE),
            ["digits is stopped at step 540 of 1080", "kept: the checkpoint of step 540, written"],
            id="nothing is lost",
        ),
        pytest.param(
            made(AT | SAVED, checkpoint=STORE),
            ["digits is stopped at step 540", "written 12s ago; at most 40 steps are executed"],
            id="steps are repeated",
        ),
        pytest.param(
            made(AT, checkpoint=STORE),
            ["", "is not known yet: the next attempt says"],
            id="none is known",
        ),
        pytest.param(made(AT), ["", "no spec.checkpoint: it begins anew"], id="forced"),
        pytest.param(
            made({"phase": "Succeeded", "conditions": [DONE]}),
            ["digits has finished before it stopped (Succeeded)"],
            id="it was faster",
        ),
    ],
)
def test_what_is_said_of_a_stopped_job(found: Manifest, lines: list[str]) -> None:
    told = list(stopped(found, NOW))
    assert all(part in line for part, line in zip(lines, told, strict=False))
    assert len(told) == (3 if len(lines) > 1 else 1)


def test_what_is_said_of_a_resumed_job() -> None:
    assert list(resumed(training(541), NOW)) == ["digits goes on in attempt 1 at step 541"]


Command = Callable[[Session], Coroutine[Any, Any, int]]
Statuses = Sequence[dict[str, Any]]


async def commanded(
    found: Manifest, command: Command, statuses: Statuses, api: ApiServer
) -> tuple[int, bool]:
    """Run a command while an operator writes statuses; the exit code, and `spec.suspend`."""
    ref = Ref.of(await api.cluster.create(found))
    async with api.serving() as link:
        running = asyncio.create_task(
            command(Session(KubernetesCluster(link, "research"), "research", "digits"))
        )
        watching = asyncio.create_task(api.watched.wait())
        await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        for status in statuses:
            api.cluster.change(ref, partial(merge, change={"status": status}))
        try:
            code = await running
        except (Misuse, NotDone) as error:
            code = code_of(error)
            sys.stderr.write(f"{error}\n")
    return code, bool((await api.cluster.read(ref))["spec"].get("suspend"))


async def stops(session: Session) -> int:
    return await stop(session, within=None, force=False)


async def forces(session: Session) -> int:
    return await stop(session, within=None, force=True)


async def hurries(session: Session) -> int:
    return await stop(session, within=0.05, force=True)


async def resumes(session: Session) -> int:
    return await resume(session, wait=False, within=None)


async def waits(session: Session) -> int:
    return await resume(session, wait=True, within=None)


GONE: Statuses = (IDLE | {"terminating": 2}, IDLE | {"terminating": 0})


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a command does to a job while an operator writes statuses."""

    found: Manifest
    command: Command
    statuses: Statuses = ()
    said: str
    code: int = 0
    suspended: bool = False
    patches: int = 0


KEPT = made(IDLE | WHOLE, 2, suspend=True, checkpoint=STORE)
IDLING = made(IDLE, 2, suspend=True)
LOST = made({"phase": "Failed", "conditions": [FAILED]}, suspend=True)
OVER = made({"phase": "Succeeded", "conditions": [DONE]})
STEP: Statuses = ({"observedGeneration": 3}, {"progress": {"step": 1, "attempt": 1}})
CASES = {
    "it stops": Case(
        found=made(AT | WHOLE, checkpoint=STORE),
        command=stops,
        statuses=GONE,
        said="kept: ",
        suspended=True,
        patches=1,
    ),
    "it has stopped: nothing is changed": Case(
        found=KEPT, command=stops, said="kept: ", suspended=True
    ),
    "it would lose all": Case(found=made(AT), command=stops, said="use --force", code=2),
    "forced": Case(
        found=made(AT),
        command=forces,
        statuses=GONE,
        said="begins anew",
        suspended=True,
        patches=1,
    ),
    "pods that do not end": Case(
        found=made(AT),
        command=hurries,
        said="stays suspended",
        code=5,
        suspended=True,
        patches=1,
    ),
    "it has finished": Case(found=OVER, command=stops, said="nothing to stop"),
    "it goes on": Case(found=IDLING, command=resumes, said="is resumed", patches=1),
    "it runs: nothing is changed": Case(found=made(AT), command=resumes, said="is not suspended"),
    "it goes on, and a step is waited for": Case(
        found=IDLING,
        command=waits,
        statuses=STEP,
        said="in attempt 1 at step 1",
        patches=1,
    ),
    "it has failed": Case(found=LOST, command=waits, said="cannot go on", code=1, suspended=True),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_a_command(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    api = ApiServer()
    done = asyncio.run(commanded(case.found, case.command, case.statuses, api))
    assert done == (case.code, case.suspended)
    assert [verb for verb, _ in api.requests].count("patch") == case.patches
    out, err = capsys.readouterr()
    assert case.said in (err if case.code in (2, 5) else out)
    if case.code != 5:  # in so little time it need not come to it
        assert ("waiting " in err) == bool(case.statuses)


@pytest.mark.parametrize("command", [forces, resumes])
def test_a_missing_right_is_named(command: Command) -> None:
    api = ApiServer(forbidden={("patch", "acceleratedjobs")})
    found = made(AT, suspend=command is resumes)
    with pytest.raises(Refused, match='cannot patch resource "acceleratedjobs"'):
        asyncio.run(commanded(found, command, [], api))


def test_what_is_waited_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    statuses: Statuses = (IDLE | {"replicas": 0, "terminating": 2}, IDLE | {"terminating": 0})
    asyncio.run(commanded(made(AT | {"replicas": 2}), forces, statuses, ApiServer()))
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "waiting until 2 pods of digits have ended"


def test_a_job_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="job digits not found in namespace research"):
        asyncio.run(commanded(made(AT) | {"kind": "Another"}, stops, [], ApiServer()))
