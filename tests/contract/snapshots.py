"""Anything that ranks can say and a coordinator can know, and the schema of what is told of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.progress.snapshot import (
    CheckpointProgress,
    Goodput,
    LifeFailure,
    Lost,
    RankProgress,
    Snapshot,
    Tier,
    Totals,
    Verdict,
    VerdictKind,
)
from runtime.control.progress.tracker import Tracker
from tests.contract.documents import read

SCHEMA: Any = json.loads(read("docs/progress.schema.json"))
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HUGE = 10**300
LONG = ['"' * 700, "\N{GRINNING FACE}" * 700, "\x1b[2J" * 200, "\ud800\r\n"]
FULL = Snapshot(
    name="digits",
    uid="0f6a",
    attempt=1,
    epoch=3,
    epochs=12,
    step=540,
    total_steps=1080,
    samples=34_560,
    samples_per_second=1240.4,
    step_seconds=0.0123,
    percent=50,
    eta_seconds=12.0,
    loss=0.2134,
    metrics={"accuracy": 0.75, "lr": float("nan")},
    losses=tuple((step, 1 / (step + 1)) for step in range(0, 540, 10)),
    last_step_time=AT,
    checkpoints=(CheckpointProgress(step=500, tier=Tier.STORAGE, time=AT, seconds=0.5),),
    ranks=tuple(
        RankProgress(
            rank=rank, place=Place(540, 3), phase=Phase.STEP, own_seconds=1.0 + (rank == 5)
        )
        for rank in range(8)
    ),
    verdicts=(Verdict(kind=VerdictKind.STRAGGLER, text="rank 5 is slow", rank=5, node="n5"),),
    failures=(
        LifeFailure(life=0, rank=5, replica=2, time=AT, signal=9, message="killed", step=530),
    ),
    goodput=Goodput(ratio=0.5, productive_seconds=60, lost=Lost(loading=30.0, hang=0.0)),
)

counts = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 2**53, 2**64, HUGE]))
durations = st.floats(0, allow_infinity=False, allow_nan=False)
places = st.builds(Place, steps=counts, epochs=counts)
texts = st.text(max_size=8) | st.sampled_from(LONG)
small = st.integers(0, 2**31)
beats = st.builds(
    Beat,
    place=places,
    phase=st.sampled_from(Phase),
    phase_seconds=durations,
    ticks=counts,
    samples=counts,
    step_seconds=st.none() | durations,
    own_seconds=st.none() | durations,
    loss=st.none() | st.floats(),
    metrics=st.dictionaries(texts, st.floats(), max_size=4),
)
totals = st.builds(
    Totals,
    epochs=st.none() | small,
    steps_per_epoch=st.none() | small,
    total_steps=st.none() | small,
)
times = st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
checkpoints = st.builds(
    CheckpointProgress,
    step=small,
    tier=st.sampled_from(Tier),
    time=times,
    seconds=st.none() | durations,
)
verdicts = st.builds(
    Verdict,
    kind=st.sampled_from(VerdictKind),
    text=texts,
    rank=st.none() | small,
    replica=st.none() | small,
    node=st.none() | texts,
    since=st.none() | times,
)

failures = st.builds(
    LifeFailure,
    life=small,
    rank=small,
    replica=small,
    time=times,
    exit_code=st.none() | small,
    signal=st.none() | small,
    exception=texts,
    message=texts,
    step=st.none() | small,
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """What is known after some lives."""
    ranks, now = draw(st.integers(0, 4)), 0.0
    tracker = Tracker(attempt=draw(small), ranks=ranks, now=now, name=draw(texts))
    for life in range(draw(st.integers(1, 2))):
        tracker.begin(life, now)
        for _ in range(draw(st.integers(0, 4))):
            now += draw(st.floats(0, 1e6))
            tracker.hear(draw(st.integers(0, 4)), draw(beats), now, life=draw(st.integers(0, 1)))
    tracker.plan(draw(totals))
    for saved in draw(st.lists(checkpoints, max_size=3)):
        tracker.saved(saved)
    for failure in draw(st.lists(failures, max_size=2)):
        tracker.fail(failure)
    tracker.judge(draw(st.lists(verdicts, max_size=3)), now)
    return tracker.snapshot(now + 1, AT + timedelta(seconds=1))


def wrong(answer: bytes) -> list[str]:
    """What is wrong with an answer of /progress, by the schema."""
    found = Draft202012Validator(SCHEMA).iter_errors(json.loads(answer))
    return [f"{error.json_path}: {error.message}" for error in found]
