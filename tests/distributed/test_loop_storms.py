"""A job whose processes are killed, stopped and suspended at any instant is done in the end.

What each rank does is written down outside of the system, and compared to an undisturbed run:
`storm.py` says what must hold. `ACCELERATEDJOB_STORMS=100 pytest -s` asks for that many storms of
many kinds more, every second one with damage, and says what was done. `ACCELERATEDJOB_STORMS_FROM`
is the first seed, and `ACCELERATEDJOB_STORMS_AT_ONCE` the number of storms at once.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.world import SCRIPT, forked

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(86_400 if "ACCELERATEDJOB_STORMS" in os.environ else 900),
    pytest.mark.xdist_group("gloo"),
]

MORE = int(os.environ.get("ACCELERATEDJOB_STORMS", "0"))
FIRST = int(os.environ.get("ACCELERATEDJOB_STORMS_FROM", "1000"))
EVERY_FIVE = {"ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "5"}
STORMS: dict[str, dict[str, Any]] = {
    "a launcher, kills and stops": {"seed": 7, "cadence": EVERY_FIVE, "disturbed": 4},
    "no launcher": {"seed": 4, "cadence": EVERY_FIVE, "start": "no launcher", "disturbed": 4},
    "other world sizes": {"seed": 6, "cadence": EVERY_FIVE, "sizes": [2, 3, 1], "disturbed": 3},
    "an object store, memory of each rank, and damage": {
        "seed": 12,
        "cadence": EVERY_FIVE,
        "start": "no launcher",
        "place": "object store",
        "memory": "of each rank",
        "harm": ["flip", "flip in memory", "a file in memory is lost"],
        "disturbed": 3,
    },
}
SLOWER: dict[str, dict[str, Any]] = {  # each of their lives imports torch
    "workers": {"seed": 9, "cadence": EVERY_FIVE, "workers": 1, "disturbed": 3},
    "nothing is forked": {"seed": 3, "cadence": EVERY_FIVE, "start": "launcher", "disturbed": 1},
}
asked_for = pytest.mark.skipif(not MORE, reason="ACCELERATEDJOB_STORMS is not set")


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str | None]:
    """What is wrong in the storm of each seed; one run for all tests."""
    found = run("storm", tmp_path_factory.mktemp("storms"), *map(json.dumps, STORMS.values()))
    return {one["seed"]: one["wrong"] for one in found}


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS.keys())
def test_a_job_is_done_as_if_it_had_not_been_disturbed(
    storm: dict[str, Any], storms: dict[int, str | None]
) -> None:
    assert storms[storm["seed"]] is None


@asked_for
@pytest.mark.parametrize("storm", SLOWER.values(), ids=SLOWER.keys())
def test_a_job_is_done_also_if_nothing_is_imported_before(
    storm: dict[str, Any], tmp_path: Path
) -> None:
    (told,) = run("storm", tmp_path, json.dumps(storm))
    assert told["wrong"] is None


@asked_for
def test_many_jobs_are(tmp_path: Path) -> None:
    seeds = [f"{'places:' * (one % 2)}{one}" for one in range(FIRST, FIRST + MORE)]
    told = run("storm", tmp_path, *seeds)
    done = sum((Counter(one["counted"]) for one in told), Counter[str]())
    sys.stdout.write(f"{len(told)} storms: {dict(done)}\n")  # shown by `pytest -s`
    assert [one for one in told if one["wrong"]] == []


EXAMPLES = ("digits", "streaming", "accumulation", "sharded")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is found in the runs of each example; one run for all tests."""
    told = run("storm_examples", tmp_path_factory.mktemp("examples"), *EXAMPLES)
    return {one["example"]: one for one in told}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_that_is_killed_and_stopped_saves_what_the_undisturbed_one_does(
    example: str, examples: dict[str, dict[str, Any]]
) -> None:
    found = examples[example]
    assert found["undisturbed"]["codes"] == [0]
    assert found["disturbed"]["codes"] == [137, 143, 0]
    assert found["disturbed"]["saved"] == found["undisturbed"]["saved"]


def run(module: str, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What a module of this folder writes."""
    argv = ["-m", f"tests.distributed.{module}", str(folder), *arguments]
    (done,) = forked((argv, os.environ | SCRIPT), seconds=86_400)
    assert done.code == 0, done.err[-5000:]
    return [json.loads(line) for line in done.out.splitlines()]
