"""What a job answers is read strictly, or not at all; 10,000 wrong answers change nothing."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from acceleratedjob.api.schema import MAX_COUNT
from acceleratedjob.api.training import Checkpoint, Lost
from acceleratedjob.observe.progress import (
    MAX_BYTES,
    AttemptGoodput,
    NotProgressError,
    Progress,
    Verdict,
    VerdictKind,
    read_progress,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SAVED: dict[str, Any] = {"step": 500, "tier": "storage", "time": "2026-01-02T03:04:03Z"}
HANG: dict[str, Any] = {
    "kind": "hang",
    "text": "rank 1 hangs at train.py:7",
    "rank": 1,
    "replica": 1,
    "node": "n1",
    "place": {"steps": 540, "epochs": 3},
    "since": "2026-01-02T03:04:03Z",
}
LOST: dict[str, Any] = {"pending": None, "starting": 1.5, "hang": 0}
TOLD: dict[str, Any] = {
    "name": "digits",
    "uid": "0f6a",
    "attempt": 2,
    "life": 1,
    "epoch": 3,
    "epochs": 12,
    "step": 540,
    "totalSteps": 1080,
    "percent": 50,
    "etaSeconds": 12.4,
    "samplesPerSecond": 1240.4,
    "stepSeconds": 0.5,
    "loss": 0.2134,
    "lastStepTime": None,
    "checkpoint": SAVED | {"seconds": 1.0},
    "checkpoints": [SAVED | {"seconds": None}],
    "verdicts": [HANG],
    "goodput": {"ratio": 0.5, "productiveSeconds": 100, "lost": LOST},
    "worldSize": 1,
    "ranksOmitted": 0,
    "ranks": [{"rank": 0, "place": None}],
}
KNOWN = Progress(
    attempt=2,
    life=1,
    uid="0f6a",
    epoch=3,
    epochs=12,
    step=540,
    total_steps=1080,
    percent=50,
    eta_seconds=12.4,
    samples_per_second=1240.4,
    step_seconds=0.5,
    loss=0.2134,
    checkpoint=Checkpoint(**SAVED, seconds=1.0),
    checkpoints=(Checkpoint(**SAVED),),
    verdicts=(
        Verdict(kind="hang", text=HANG["text"], rank=1, replica=1, since="2026-01-02T03:04:03Z"),
    ),
    goodput=AttemptGoodput(productive_seconds=100, lost=Lost(starting=1.5, hang=0)),
)


def test_an_answer_is_read() -> None:
    assert read_progress(json.dumps(TOLD).encode()) == KNOWN


def test_what_a_later_version_tells_besides_is_ignored() -> None:
    more = TOLD | {"new": {"a": [1]}, "verdicts": [HANG | {"kind": "new"}, HANG | {"new": 7}]}
    found = read_progress(json.dumps(more).encode())
    assert found.verdict(VerdictKind.HANG) == KNOWN.verdicts[0]
    assert found.step == KNOWN.step


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"step": 1', id="cut off"),
        pytest.param(b'{"step": NaN}', id="a literal that JSON has not"),
        pytest.param(b'{"new": Infinity}', id="another one, where it is not read"),
        pytest.param(b'{"etaSeconds": 1e999}', id="a number that becomes infinite"),
        pytest.param(b'{"loss": -1e999}', id="a loss that does"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b'{"step": ' + b"9" * 5000 + b"}", id="more digits than Python reads"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 40_000, id="deep mappings"),
        pytest.param(b'{"step": 1}' + b" " * MAX_BYTES, id="too long"),
    ],
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    with pytest.raises(NotProgressError):
        read_progress(answer)


WRONG_VALUES: dict[str, tuple[Any, ...]] = {
    "step": (-1, True, 1.5, "7", 2**53, [1], 1e300),
    "attempt": (-1, "0", 0.0),
    "life": (-1,),
    "percent": (101,),
    "etaSeconds": (-0.1, "Infinity", True, []),
    "stepSeconds": (-1,),
    "loss": ("\x1b[2J", [1], "nan", False),
    "checkpoint": (
        *(7, {}, SAVED | {"step": -1}, SAVED | {"tier": "tape"}, SAVED | {"time": 7}),
        *(
            SAVED | {"time": time}
            for time in ("now", "2026-02-31T00:00:00Z", "2026-01-02T03:04:03")
        ),
    ),
    "checkpoints": ([SAVED] * 11,),
    "verdicts": (
        *({}, [{}], [HANG] * 21, [HANG | {"text": "a" * 501}], [HANG | {"rank": -1}]),
        [HANG | {"since": "yesterday"}],
    ),
    "goodput": ({"productiveSeconds": -1}, {"lost": {"hang": "1"}}, {"lost": []}),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, one) for name, several in WRONG_VALUES.items() for one in several]
)
def test_an_answer_with_one_wrong_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(NotProgressError, match=name):
        read_progress(json.dumps(TOLD | {name: value}).encode())


@pytest.mark.parametrize(
    ("value", "read"), [(1e300, float(MAX_COUNT)), (2**60, float(MAX_COUNT)), (7, 7.0)]
)
def test_a_duration_is_bounded(value: float, read: float) -> None:
    assert read_progress(json.dumps({"etaSeconds": value}).encode()).eta_seconds == read


def test_a_text_is_one_line_that_can_be_printed_and_stored() -> None:
    wild = "rank 1\n\x1b[2J hangs \ud800\u202e"
    found = read_progress(json.dumps({"verdicts": [HANG | {"text": wild}]}).encode())
    assert found.verdicts[0].text == "rank 1 ?[2J hangs ??"


WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 2**53, 2**70, -(2**70), 0.5, 1e308, "7", "NaN", "\ud800", ""),
    *([], {}, [[]], {"step": {}}, [SAVED], [HANG], "a" * 2000, [[1, 2]] * 50),
)


def mutated(value: Any, luck: random.Random) -> Any:
    """A value with some of its parts replaced."""
    if luck.random() < 0.01:
        return luck.choice(WRONG)
    if isinstance(value, dict):
        kept = {k: mutated(v, luck) for k, v in value.items() if luck.random() > 0.02}
        return kept | ({"\x00": luck.choice(WRONG)} if luck.random() < 0.1 else {})
    return [mutated(one, luck) for one in value] if isinstance(value, list) else value


def fuzzed(luck: random.Random) -> bytes:
    """An answer that may be anything."""
    text = json.dumps(mutated(TOLD, luck)).encode()
    at = luck.randrange(len(text) + 1)
    return luck.choice(
        (
            text,
            text,
            text[:at],
            text[:at] + luck.randbytes(3) + text[at:],
            text.replace(b"540", luck.choice((b"NaN", b"1e999", b"-0", b"9" * 400, b"5.4e2"))),
            text[:at] + b"[" * luck.choice((1, 5000)) + text[at:],
            text + b" " * luck.choice((1, MAX_BYTES)),
            text.decode().encode(luck.choice(("utf-16", "utf-32", "utf-8-sig"))),
        )
    )


def test_ten_thousand_answers_are_read_or_refused() -> None:
    luck, read = random.Random(7), 0
    for _ in range(10_000):
        answer = fuzzed(luck)
        try:
            found = read_progress(answer)
        except NotProgressError:
            continue
        read += 1
        assert type(found.step) in (int, type(None))
        assert 0 <= (found.step or 0) <= MAX_COUNT
        assert len(found.verdicts) <= 20
    assert 500 < read < 9_500
