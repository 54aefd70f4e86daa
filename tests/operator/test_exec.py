"""Commands in pods: the protocol, and what `dump` and `checkpoints` make of the answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from acceleratedjob.api.names import Manifest, pod_name
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.checkpoint_list import read_places, report
from acceleratedjob.commands.checkpoints import checkpoints
from acceleratedjob.commands.dump import dump
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import ClusterError, NotFound, Refused
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.exec import MAX_BYTES, Output, run_in_pod
from tests.operator.apiserver import ApiServer
from tests.operator.builders import CONTAINER, NOW, ago, job
from tests.operator.talking import answering

OUT, ERR, STATUS = b"\x01", b"\x02", b"\x03"
SUCCESS = STATUS + b'{"status": "Success"}'
NO_PROGRAM = (
    STATUS
    + json.dumps(
        {"status": "Failure", "message": "exec: python: executable file not found in $PATH"}
    ).encode()
)


def failed(code: int) -> bytes:
    causes = {"causes": [{"reason": "ExitCode", "message": f"{code}"}]}
    told = {"status": "Failure", "reason": "NonZeroExitCode", "details": causes}
    return STATUS + json.dumps(told | {"message": f"exit code {code}"}).encode()


def run(*messages: bytes) -> Output:
    """What is understood of an API server's messages."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query.getall("command") == ["ls", "-l"]
        assert (request.query["container"], request.query["stdout"]) == ("trainer", "true")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        for message in messages:
            await socket.send_bytes(message)
        await socket.close()
        return socket

    async def ask() -> Output:
        async with answering(answer) as link:
            return await run_in_pod(link, "research", "digits-0-0", "trainer", ["ls", "-l"])

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("messages", "output"),
    [
        pytest.param([SUCCESS], Output(0, "", ""), id="nothing"),
        pytest.param(
            [OUT, ERR, OUT + b"a", ERR + b"x", OUT + b"\xc3", OUT + b"\xa4", SUCCESS],
            Output(0, "aä", "x"),
            id="in pieces",
        ),
        pytest.param([OUT + b"\xff", SUCCESS], Output(0, "\ufffd", ""), id="no text"),
        pytest.param([ERR + b"no", failed(3)], Output(3, "", "no"), id="an exit code"),
        pytest.param([failed(3)], Output(3, "", "exit code 3"), id="an exit code only"),
        pytest.param(
            [NO_PROGRAM],
            Output(None, "", "exec: python: executable file not found in $PATH"),
            id="no such program",
        ),
        pytest.param([b"", b"\x09?", SUCCESS], Output(0, "", ""), id="unknown channels"),
    ],
)
def test_what_a_command_has_printed(messages: list[bytes], output: Output) -> None:
    assert run(*messages) == output


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        pytest.param([OUT + b"a"], "was lost before the command had ended", id="cut off"),
        pytest.param([STATUS + b"?"], "must say how a command ended", id="no status"),
        pytest.param([STATUS + b"[]"], "must say how a command ended", id="another status"),
        pytest.param(
            [OUT + b"a" * (MAX_BYTES // 2)] * 3, "has printed more than", id="without an end"
        ),
    ],
)
def test_what_is_no_answer(messages: list[bytes], sentence: str) -> None:
    with pytest.raises(ClusterError, match=sentence):
        run(*messages)


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        pytest.param(403, Refused, "the verbs get and create of pods/exec", id="forbidden"),
        pytest.param(404, NotFound, "cannot run a command in pod digits-0-0", id="no such pod"),
        pytest.param(500, ClusterError, "cannot run a command", id="not now"),
    ],
)
def test_what_is_refused(status: int, error: type[Exception], sentence: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "no"}, status=status)

    async def ask() -> None:
        async with answering(answer) as link:
            await run_in_pod(link, "research", "digits-0-0", "trainer", ["ls"])

    with pytest.raises(error, match=sentence):
        asyncio.run(ask())


Said = Callable[[str, list[str]], list[bytes]]  # pod, command -> the messages
STORE = {"uri": "s3://bucket/team"}


def pod(index: int, owner: Manifest, attempt: int = 0, **state: Any) -> Manifest:
    """A pod of a job, as the API server has it."""
    name = pod_name("digits", attempt, index)
    status = {"name": "trainer", "state": state or {"running": {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "research",
            "labels": {"accelerated.dev/job-name": "digits"},
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": "digits",
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"containers": [CONTAINER | {"command": ["/venv/bin/python3.11", "train.py"]}]},
        "status": {"containerStatuses": [status]},
    }


def asked(
    command: Callable[[Session], Awaitable[int]],
    said: Said,
    api: ApiServer | None = None,
    pods: tuple[tuple[int, int], ...] = ((0, 0), (1, 0)),
    **fields: Any,
) -> int:
    """Run a command about a job whose pods answer so."""
    server = api or ApiServer()

    async def answer(pod: str, words: list[str], socket: web.WebSocketResponse) -> None:
        for message in said(pod, words):
            await socket.send_bytes(message)

    async def ask() -> int:
        status = fields.pop("status", {})
        made = await server.cluster.create(job(**fields))
        server.cluster.change(Ref.of(made), lambda one: one.update(status=status))
        for index, attempt in pods:
            one = pod(index, made, attempt)
            states = one["status"]
            ref = Ref.of(await server.cluster.create(one))
            server.cluster.change(ref, lambda it, states=states: it.update(status=states))  # type: ignore[misc]  # a lambda's default
        server.run = answer
        async with server.serving() as link:
            return await command(Session(KubernetesCluster(link, "research"), "research", "digits"))

    return asyncio.run(ask())


def stacks(pod: str, words: list[str]) -> list[bytes]:
    assert words == ["/venv/bin/python3.11", "-m", "runtime.dump", "1"]
    return [OUT + f"rank {pod[-1]}:\n  train.py:7\x1b[2J\n".encode(), SUCCESS]


def test_dump_prints_the_stacks_of_all_pods_of_the_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pods = ((1, 1), (0, 1), (0, 0))
    assert asked(dump, stacks, pods=pods, status={"attempt": 1}) == 0
    assert capsys.readouterr().out.splitlines() == [
        *("replica 0 (pod digits-1-0)", "rank 0:", "  train.py:7?[2J", ""),
        *("replica 1 (pod digits-1-1)", "rank 1:", "  train.py:7?[2J", ""),
    ]


def test_dump_names_a_pod_that_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def one_lacks_it(pod: str, words: list[str]) -> list[bytes]:
        if pod.endswith("-1"):
            return [ERR + b"/usr/bin/python: No module named runtime", failed(1)]
        return stacks(pod, words)

    assert asked(dump, one_lacks_it) == 0
    told = capsys.readouterr()
    assert "rank 0:" in told.out
    assert told.err == (
        "warning: pod digits-0-1: its image has no runtime.dump: install "
        "acceleratedjob, or a newer version of it\n"
    )


def test_other_interpreters_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    tried = []

    def only_python3(_: str, words: list[str]) -> list[bytes]:
        tried.append(words[0])
        return [OUT + b"rank 0", SUCCESS] if words[0] == "python3" else [NO_PROGRAM]

    assert asked(dump, only_python3, pods=((0, 0),)) == 0
    assert tried == ["/venv/bin/python3.11", "python", "python3"]
    with pytest.raises(ClusterError, match=r"has no /venv/bin/python3\.11 or python or python3"):
        asked(dump, lambda *_: [NO_PROGRAM], pods=((0, 0),))
    assert "rank 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        pytest.param(("get", "pods/exec"), "get and create of pods/exec", id="to run commands"),
        pytest.param(("get", "pods"), 'cannot get resource "pods"', id="to list pods"),
    ],
)
def test_dump_says_which_right_is_missing(right: tuple[str, str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        asked(dump, stacks, ApiServer(forbidden={right}))


def test_dump_needs_a_pod() -> None:
    with pytest.raises(NotFound, match="no pod of digits runs"):
        asked(dump, stacks, pods=())


LISTED = [
    {
        "place": "/checkpoints/digits",
        "checkpoints": [
            {"name": "checkpoint_541", "problem": "incomplete"},
            {
                "name": "checkpoint_540",
                "step": 540,
                "time": format_time(ago(12)),
                "bytes": 3 * 2**20,
                "later": 1,
            },
        ],
    },
    {"place": "/checkpoints/other", "checkpoints": []},
]


def test_the_list_of_checkpoints() -> None:
    assert list(report(read_places(json.dumps(LISTED)), NOW)) == [
        "/checkpoints/digits",
        "  CHECKPOINT       STEP   AGE   SIZE      STATE",
        "  checkpoint_541                          incomplete",
        "  checkpoint_540   540    12s   3.0 MiB   complete",
        "/checkpoints/other",
        "  no checkpoints",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[1]", '[{"place": 1}]', "[" * 100_000),
        '[{"place": "/", "checkpoints": [{"name": "a", "step": -1}]}]',
        '[{"place": "/", "checkpoints": [{"name": "a", "time": "now"}]}]',
    ],
    ids=range(7),
)
def test_a_list_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="the list of checkpoints cannot be read"):
        read_places(text)


def test_one_pod_lists_the_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(pod: str, words: list[str]) -> list[bytes]:
        assert (pod, words[1:]) == ("digits-0-0", ["-m", "runtime.checkpoints", "--json"])
        return [OUT + json.dumps(LISTED).encode(), SUCCESS]

    assert asked(checkpoints, listed, checkpoint=STORE) == 0
    assert "checkpoint_540   540" in capsys.readouterr().out


def test_the_checkpoints_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    as_json = partial(checkpoints, form="json")
    answer = [OUT + json.dumps(LISTED).encode(), SUCCESS]
    assert asked(as_json, lambda *_: answer, checkpoint=STORE) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["checkpoints"][1] == {
        "name": "checkpoint_540",
        "step": 540,
        "time": format_time(ago(12)),
        "bytes": 3 * 2**20,
    }
    assert second == {"place": "/checkpoints/other", "checkpoints": []}
    assert asked(as_json, stacks, pods=(), status=SAVED, checkpoint=STORE | {"path": "a"}) == 0
    (known,) = json.loads(capsys.readouterr().out)
    assert (known["place"], known["checkpoints"][0]["step"]) == ("s3://bucket/team/a", 500)
    assert asked(as_json, stacks, pods=()) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_pod_that_lists_nonsense_is_named() -> None:
    with pytest.raises(ClusterError, match="pod digits-0-0: the list of checkpoints cannot be"):
        asked(checkpoints, lambda *_: [OUT + b"?", SUCCESS], checkpoint=STORE)


SAVED = {"checkpoint": {"step": 500, "tier": "storage", "time": format_time(ago(12))}}
VOLUME = {"volume": {"persistentVolumeClaim": {"claimName": "c"}}, "path": "team/digits"}


@pytest.mark.parametrize(
    ("spec", "status", "told"),
    [
        pytest.param({}, {}, ["has no spec.checkpoint"], id="it has none"),
        pytest.param(
            {"checkpoint": STORE | {"path": "a"}},
            SAVED,
            ["s3://bucket/team/a", "step 500", "checkpoints --folder s3://bucket/team/a"],
            id="a store: anybody can look there",
        ),
        pytest.param(
            {"checkpoint": VOLUME},
            {},
            ["team/digits in its volume", "no checkpoint of it is known", "mount the volume"],
            id="a volume: a pod must have it",
        ),
    ],
)
def test_without_a_pod_what_is_known_is_said(
    spec: dict[str, Any],
    status: dict[str, Any],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert asked(checkpoints, stacks, pods=(), status=status, **spec) == 0
    out = capsys.readouterr().out
    assert all(part in line for part, line in zip(told, out.splitlines(), strict=True))
