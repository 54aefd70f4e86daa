"""What the coordinator makes of what ranks say, by a clock that the test has."""

import time

import pytest

from runtime.control.beat import Beat, Phase
from runtime.control.frames import Frame
from runtime.control.identity import Identity
from runtime.control.messages import Checkpointed, Collect, Judged, Message, Whereabouts
from runtime.control.observer import Observer
from runtime.control.place import Place
from runtime.control.progress.snapshot import Tier
from runtime.control.verdicts.report import Report


@pytest.mark.parametrize(
    ("tier", "is_asked"),
    [
        pytest.param(Tier.STORAGE, True, id="storage: a minute is too long for another one"),
        pytest.param(Tier.MEMORY, False, id="memory: that says nothing of storage"),
    ],
)
def test_how_long_a_save_may_take_is_known_from_a_checkpoint_on(tier: Tier, is_asked: bool) -> None:
    observer = Observer(Identity(uid="u", attempt=0, size=1), limits=None)
    began = time.monotonic()
    observer.hear(0, Checkpointed(step=1, seconds=1.0, tier=tier), began)
    said: list[Message] = []
    for second in range(80):
        now = began + second
        beat = Beat(place=Place(9), phase=Phase.CHECKPOINT, phase_seconds=second)
        observer.hear(0, beat, now)
        said += observer.judge(now)
    assert (Collect() in said) == is_asked


def test_who_asks_where_the_ranks_are_looks_soon_for_the_answers() -> None:
    observer = Observer(Identity(uid="u", attempt=0, size=1), limits=None)
    began, waits, said = observer.judge_at, [], list[Message]()
    now = began
    for second in range(620):  # a rank that has made no step has ten minutes
        now = began + second
        beat = Beat(place=Place(9), phase=Phase.STEP, phase_seconds=second)
        observer.hear(0, beat, now)
        said += observer.judge(now)
        waits.append(round(observer.judge_at - now, 3))
        if Collect() in said:
            break
    assert set(waits[:-1]) == {1.0}
    assert waits[-1] == 0.1
    observer.hear(0, Whereabouts(Report(stack=(Frame("train.py", 1, "main"),))), now)
    said += observer.judge(observer.judge_at)
    assert any(isinstance(one, Judged) for one in said)
    assert round(observer.judge_at - now, 3) == 1.1
