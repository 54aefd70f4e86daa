"""A verdict on a hang in a termination message: what the operator reads, whatever ends the pod."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from acceleratedjob.observe.termination import LastWords, read_last_words
from runtime.control.verdicts.summary import Summary, read
from runtime.world import last_words
from runtime.world.contract import REPLICAS
from tests.distributed.world import SCRIPT

HANG = Summary(
    rank=3,
    replica=3,
    node="n7",
    file="/app/data.py",
    line=88,
    function="read_shard",
    since="2026-11-27T14:00:00+00:00",
    waits_in="all_reduce, collective 7",
    message="the training hangs: rank 3 is at /app/data.py:88",
).as_dict()
FACTS = {name: one for name, one in HANG.items() if name != "message"}
ERROR = {"exception": "ValueError", "message": "no such file", "rank": 0}
STOPPED = {"stopped": {"step": 7}}
LEAVES: dict[str, Any] = {"stopped": {}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "termination-log"


def env(file: Path) -> dict[str, str]:
    return {REPLICAS: "4", last_words.PATH: str(file)}


def said(file: Path) -> Any:
    text = file.read_text()
    return json.loads(text) if text else None


def test_a_hang_alone_is_read_as_the_exception_of_the_rank_that_hangs(file: Path) -> None:
    last_words.write_hang(env(file), HANG)
    expected = LastWords(exception="Hang", message=HANG["message"], rank=3)
    assert read_last_words(file.read_text()) == expected
    assert said(file)["hang"] == FACTS


def test_an_exception_that_follows_is_written_beside_the_hang(file: Path) -> None:
    last_words.write_hang(env(file), HANG)
    last_words.write(env(file), ERROR)
    assert said(file) == {**ERROR, "hang": FACTS}
    last_words.write(env(file), {**ERROR, "rank": 2})
    assert said(file)["rank"] == 0  # the first one is kept


def test_a_stop_that_follows_is_written_beside_the_hang(file: Path) -> None:
    last_words.write_hang(env(file), HANG)
    last_words.write_stopped(env(file), 7)
    assert said(file) == {**STOPPED, "hang": FACTS}


def test_a_hang_is_written_beside_an_exception_that_was_there(file: Path) -> None:
    last_words.write(env(file), ERROR)
    last_words.write_hang(env(file), HANG)
    assert said(file) == {**ERROR, "hang": FACTS}


@pytest.mark.parametrize("words", [None, ERROR, STOPPED], ids=["none", "exception", "stopped"])
def test_a_hang_that_is_over_leaves_what_else_was_written(file: Path, words: Any) -> None:
    last_words.write_hang(env(file), HANG)
    if words:
        last_words.write(env(file), words)
    last_words.write_hang(env(file), None)
    assert said(file) == words
    last_words.write_stopped(env(file), 9)
    assert said(file) == (words or {"stopped": {"step": 9}})


@pytest.mark.parametrize("words", [ERROR, STOPPED], ids=["an exception", "a stop with a step"])
def test_what_follows_the_end_of_a_script_that_was_told_to_stop_replaces_it(
    file: Path, words: dict[str, Any]
) -> None:
    last_words.write_hang(env(file), HANG)
    last_words.write_leaving(env(file))
    assert said(file) == {**LEAVES, "hang": FACTS}
    last_words.write_hang(env(file), None)
    last_words.write_leaving(env(file))  # of another rank
    assert said(file) == LEAVES
    last_words.write(env(file), words)
    last_words.write_leaving(env(file))
    last_words.write(env(file), {"exception": "KeyError"})
    assert said(file) == words


@pytest.mark.parametrize("text", ["the script's own words", "[1]", "{"])
def test_what_a_script_has_written_stays(file: Path, text: str) -> None:
    file.write_text(text)
    last_words.write_hang(env(file), HANG)
    last_words.write_hang(env(file), None)
    assert file.read_text() == text


def test_nothing_is_written_outside_of_a_job(file: Path) -> None:
    last_words.write_hang({last_words.PATH: str(file)}, HANG)
    assert not file.exists()


texts = some.text('"\\a', max_size=512)


@given(
    some.text("\0é", min_size=300, max_size=512), texts, texts, some.text('é€"\n', max_size=6000)
)
def test_a_message_is_never_longer_than_the_kubelet_allows(
    message: str, name: str, waits: str, trace: str
) -> None:
    hang = FACTS | {"file": name[:240], "function": name[:100], "waitsIn": waits[:200]}
    facts = {"exception": "€" * 128, "message": message[:512], "rank": 1, "hang": hang}
    written = last_words.fitted(facts, trace)
    assert len(written) <= last_words.MAX_BYTES
    assert json.loads(written)["hang"] == hang
    assert read_last_words(written.decode()) is not None


BROKEN: dict[str, dict[str, Any]] = {
    "a rank that is no number": {"rank": "3"},
    "a rank that is a bool": {"rank": True},
    "no rank": {"rank": None},
    "a negative line": {"line": -1},
    "a time without a zone": {"since": "2026-11-27T14:00:00"},
    "no time": {"since": "now"},
    "a line end in a text": {"message": "a\nb"},
    "a long text": {"node": "n" * 254},
    "a field too many": {"more": 1},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_verdict_is_refused_that_has(change: dict[str, Any]) -> None:
    assert read(HANG).as_dict() == HANG
    with pytest.raises(ValueError, match=r"must|[Ii]nvalid"):
        read(HANG | change)


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: a script as PID 1 needs root (unshare)")
@pytest.mark.parametrize(
    ("before", "is_said"), [(("unshare", "--pid", "--fork"), True), ((), False)]
)
def test_a_script_writes_the_verdict_if_it_is_pid_1(
    file: Path, before: tuple[str, ...], is_said: bool
) -> None:
    """Elsewhere its launcher does."""
    script = (
        "import json, os, sys; from runtime.world.last_words import write_hang_as_init; "
        "write_hang_as_init(os.environ, json.loads(sys.argv[1]))"
    )
    command = [*before, sys.executable, "-c", script, json.dumps(HANG)]
    subprocess.run(command, env=os.environ | SCRIPT | env(file), check=True)
    assert file.exists() == is_said
