"""A life may end at any moment: the next one goes on with the bits of an undisturbed training.

Scripts whose loaders have workers end at few moments; `ACCELERATEDJOB_EACH_LIFE=1 pytest` asks for
as many as those of the others.
"""

import functools
import os
from pathlib import Path

import pytest

from tests.runtime.loops import EACH_STEP, WITH_WORKERS, Event, Script, lived, steps

DIRECTORY, EVERY_STEPS = "ACCELERATEDJOB_CHECKPOINT_DIR", "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"
LIVES = 80
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:no data loader was prepared:UserWarning"),
]


@functools.cache
def undisturbed(script: Script) -> list[Event]:
    return lived(script)


def from_first_step(notes: list[Event]) -> list[Event]:
    """What comes before the resumed batch, such as an evaluation, is repeated with new weights."""
    first = next((i for i, one in enumerate(notes) if one[0] == "step"), None)
    return notes if first is None else notes[first:]


def check(script: Script, loses: int) -> None:
    """End life after life, each a few notes further, and compare all with the undisturbed one."""
    whole, last, more = undisturbed(script), 0, 0
    assert steps(whole)[-1] > 1
    for life in range(LIVES):
        notes = lived(script, loses + 1 + life % 3 + more)
        own = from_first_step(notes)
        if not steps(own):
            more += 1
            assert own[-1:] == whole[-1:] or own != whole[-len(own) :]
        else:
            begin = whole.index(own[0])
            assert own == whole[begin : begin + len(own)]
            assert last - loses < steps(own)[0] <= last + 1, "it goes on where it stopped"
            more += steps(own)[-1] <= last
            last = max(last, steps(own)[-1])
        if notes[-1][0] == "weights":
            assert notes[-1] == whole[-1]
            return
    pytest.fail(f"no life has reached the end: {last}")


@pytest.mark.parametrize("name", EACH_STEP)
def test_each_kind_of_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, loses = EACH_STEP[name]
    undisturbed(script)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.setenv(EVERY_STEPS, "1")
    check(script, loses)


WITHIN, AFTERWARDS = 4, 5  # notes of a life that ends within an epoch, and of the next one


@pytest.mark.parametrize("name", WITH_WORKERS)
def test_scripts_whose_loaders_have_workers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, loses = WITH_WORKERS[name]
    is_whole = "ACCELERATEDJOB_EACH_LIFE" in os.environ
    whole = undisturbed(script) if is_whole else lived(script, WITHIN + AFTERWARDS - 1)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.setenv(EVERY_STEPS, "1")
    if is_whole:
        check(script, loses)
        return
    assert lived(script, WITHIN) == whole[:WITHIN]
    assert lived(script, AFTERWARDS) == whole[WITHIN - 1 :]
    assert steps(whole)[-1] == 7, "it ends in the second epoch"
