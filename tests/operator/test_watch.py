"""What `acceleratedjob status --watch` shows, on a terminal and in a pipe."""

import asyncio
import io
from functools import partial
from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Ref
from acceleratedjob.commands import table
from acceleratedjob.commands.job_line import job_line, job_lines
from acceleratedjob.commands.session import Session
from acceleratedjob.commands.watching import Display, Lines, watch
from acceleratedjob.commands.watching import Screen as Terminal
from acceleratedjob.errors import NotFound
from acceleratedjob.kube.cluster import KubernetesCluster
from tests.operator.apiserver import ApiServer
from tests.operator.builders import NOW, ago, job
from tests.operator.screen import Screen, Tty

HANG = {"type": "Hanging", "status": "True", "reason": "X", "message": "rank 1 hangs at train.py:7"}
OVER = {"type": "Straggling", "status": "False", "reason": "X", "message": "rank 2 is slow"}
FAILED = {"type": "Failed", "status": "True", "reason": "X", "message": "maxRestarts is 0"}
COMPLETE = {"type": "Complete", "status": "True", "reason": "X", "message": "done"}
PROGRESS = {
    "step": 540,
    "totalSteps": 1080,
    "percent": 50,
    "etaSeconds": 4320,
    "samplesPerSecond": 1240.4,
}
TRAINING: dict[str, Any] = {
    "phase": "Running",
    "readyRatio": "2/2",
    "progress": PROGRESS,
    "checkpoint": {"step": 500, "tier": "storage", "time": format_time(ago(12))},
    "shown": {"progress": "50%", "eta": "1h12m", "goodput": "87%"},
    "restarts": 1,
}
WHOLE = (
    "digits  Running  2/2  [##########..........]  50%  step 540/1080  ETA 1h12m  1240 samples/s"
    "  goodput 87%  checkpoint 12s ago  restarts 1"
)


def told(uid: str = "1", name: str = "digits", **status: Any) -> Manifest:
    """A job with a status as given."""
    made = job()
    made["metadata"] |= {"uid": uid, "name": name, "creationTimestamp": format_time(ago(60))}
    return made | {"status": status}


@pytest.mark.parametrize(
    ("width", "line"),
    [
        pytest.param(200, WHOLE, id="a wide terminal: all of it"),
        pytest.param(len(WHOLE), WHOLE, id="as wide as it: all of it"),
        pytest.param(
            len(WHOLE) - 1, WHOLE.replace("  [##########..........]", ""), id="first, no bar"
        ),
        pytest.param(22, "digits  Running  50%", id="a narrow one: name, phase, percent"),
        pytest.param(15, "digits  50%", id="a narrower one: without the phase"),
        pytest.param(4, "dig…", id="hardly one: never longer than the terminal"),
    ],
)
def test_the_line_of_a_job(width: int, line: str) -> None:
    assert job_line(told(**TRAINING), NOW, width=width) == line


def test_a_line_has_only_what_is_known() -> None:
    assert job_line(told(), NOW, width=80) == "digits  restarts 0"
    shown = job_line(told(phase="Pending"), NOW, width=80, gone=True, space="research")
    assert shown == "research/digits  Deleted  restarts 0"


def test_what_is_wrong_is_in_the_line_and_said_below_it() -> None:
    lines = job_lines(told(phase="Running", conditions=[HANG, OVER]), NOW, width=60)
    assert lines == [
        "digits  Running  restarts 0  Hanging",
        "  Hanging: rank 1 hangs at train.py:7",
    ]


def test_a_long_sentence_goes_on_in_the_next_line() -> None:
    lines = job_lines(told(phase="Running", conditions=[HANG]), NOW, width=24)
    assert lines[1:] == ["  Hanging: rank 1 hangs", "    at train.py:7"]


def test_no_text_of_a_pods_moves_the_cursor() -> None:
    odd = HANG | {"message": "\x1b[2J\r\nx"}
    assert job_lines(told(conditions=[odd]), NOW, width=60)[1:] == ["  Hanging: ?[2J? x"]


Changes = list[dict[str, Any] | None]  # the status after each change; None: the job is deleted


async def watched(changes: Changes, shown: Display) -> int:
    """Watch a job that changes so."""
    api = ApiServer()
    made = await api.cluster.create(job())
    ref = Ref.of(made)
    async with api.serving() as link:
        session = Session(KubernetesCluster(link, "research"), "research", "digits")
        watching = asyncio.create_task(watch(session, shown))
        await api.watched.wait()
        for status in changes:
            if status is None:
                api.cluster.remove(ref, uid=made["metadata"]["uid"])
            else:
                api.cluster.change(ref, partial(set_status, status))
        return await watching


def set_status(status: dict[str, Any], one: Manifest) -> None:
    one["status"] = status


def test_a_pipe_gets_a_line_for_each_change_and_the_end() -> None:
    out = io.StringIO()
    running = {"phase": "Running", "readyRatio": "2/2"}
    changes: Changes = [
        running | {"progress": {"step": 1}},
        running | {"progress": {"step": 1, "time": "2026-01-01T12:00:00Z"}},  # not shown
        running | {"progress": {"step": 2}, "conditions": [HANG]},
        running | {"progress": {"step": 3}, "conditions": [HANG]},
        {"phase": "Failed", "conditions": [FAILED]},
    ]
    assert asyncio.run(watched(changes, Lines(namespaces=False, out=out))) == 1
    header, *lines = out.getvalue().splitlines()
    assert tuple(header.split()) == table.WATCHED
    assert [" ".join(line.split()) for line in lines] == [
        "digits 0",
        "digits Running 2/2 1 0",
        "digits Running 2/2 2 0 Hanging",
        "Hanging: rank 1 hangs at train.py:7",
        "digits Running 2/2 3 0 Hanging",
        "digits Failed 0",
        "Failed: maxRestarts is 0",
    ]


def test_a_terminal_shows_the_last_state_and_goes_on_below_it() -> None:
    out, screen = Tty(), Screen()
    changes: Changes = [
        {"phase": "Running", "conditions": [HANG]},
        {"phase": "Running"},
        {"phase": "Succeeded", "conditions": [COMPLETE]},
    ]
    assert asyncio.run(watched(changes, Terminal(out, namespaces=False))) == 0
    screen.feed(out.getvalue() + "$ ")
    assert screen.lines == ["digits  Succeeded  restarts 0", "$ "]


def test_a_deleted_job_is_an_error() -> None:
    with pytest.raises(NotFound, match="digits was deleted"):
        asyncio.run(watched([None], Lines(namespaces=False, out=io.StringIO())))


def test_lines_of_several_jobs_stay_in_place_and_one_that_is_gone_gives_way() -> None:
    out, screen = Tty(), Screen()

    async def run() -> None:
        async with Terminal(out, namespaces=False).running() as shown:
            shown.show(told("1", "a"), gone=False)
            shown.show(told("2", "b"), gone=False)
            shown.show(told("1", "a", phase="Running"), gone=False)
            shown.show(told("1", "a"), gone=True)
            screen.feed(out.getvalue())
            assert screen.lines == ["a  Deleted  restarts 0", "b  restarts 0"]
            shown.show(told("3", "a"), gone=False)

    asyncio.run(run())
    again = Screen()
    again.feed(out.getvalue())
    assert sorted(again.lines) == ["a  restarts 0", "b  restarts 0"]


def test_interrupted_it_leaves_the_cursor_below_the_lines() -> None:
    out = Tty()

    async def run() -> None:
        async with Terminal(out, namespaces=False).running() as shown:
            shown.show(told(), gone=False)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    screen = Screen()
    screen.feed(out.getvalue() + "$ ")
    assert screen.lines == ["digits  restarts 0", "$ "]
