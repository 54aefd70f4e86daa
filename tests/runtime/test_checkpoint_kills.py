"""A training that is killed at any instant, and started again, ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.kills import MODES, STEPS

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL


class Lives:
    """Has trainings live and die."""

    def __init__(self) -> None:
        # The lives are forks, in which CUDA does not work: there is no generator of it to save.
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        env = os.environ | own
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kills.py"))],
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.heard()

    def live(
        self, mode: str, folder: Path, *, event: int | None = None, after: float | None = None
    ) -> list[dict[str, Any]]:
        """One life, until it ends by itself or is killed; gives what it has said."""
        life = {"mode": mode, "folder": str(folder), "event": event, "after": after}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(life) + "\n")
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        assert self.process.stdout is not None
        said: list[dict[str, Any]] = []
        while not said or "ended" not in said[-1]:
            said.append(json.loads(self.process.stdout.readline()))
        assert said[-1]["ended"] in (0, KILLED)
        return said

    def end(self) -> None:
        self.process.communicate(timeout=600)


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    made = Lives()
    yield made
    made.end()


def value(said: list[dict[str, Any]], name: str) -> Any:
    """What was said of something last; None if nothing was."""
    return next((one[name] for one in reversed(said) if name in one), None)


def resumed(lives: Lives, mode: str, folder: Path, deaths: list[dict[str, Any]]) -> list[Any]:
    """The last life of a training that dies so; no life loses what was safe in one before."""
    safe, said = 0, []
    for death in [*deaths, {}]:
        said = lives.live(mode, folder, **death)
        if not death or (death is deaths[0] and "event" in death):
            assert said[-1]["ended"] == (KILLED if death else 0), said
        loaded = value(said, "loaded")
        if loaded is not None:
            assert loaded >= safe, said
        safe = max(value(said, "safe") or 0, safe)
    return said


@pytest.mark.parametrize("mode", MODES)
def test_killed_at_any_step_of_a_save_it_ends_with_the_same_bits(
    lives: Lives, mode: str, tmp_path: Path
) -> None:
    """At calls that touch the files, drawn from all of a run; every second training dies twice."""
    whole = lives.live(mode, tmp_path / "whole")
    events = value(whole, "events")
    assert events > 50
    drawn = random.Random(mode)
    for index, event in enumerate(sorted(drawn.sample(range(1, events), 8))):
        deaths = [{"event": event}, {"event": drawn.randrange(1, 30)}][: 1 + index % 2]
        said = resumed(lives, mode, tmp_path / str(event), deaths)
        assert value(said, "done") == value(whole, "done"), event
        assert value(said, "scheduler") == value(whole, "scheduler"), event


@pytest.mark.parametrize("mode", ["behind", "one is kept"])
def test_killed_at_any_time_it_ends_with_the_same_bits(
    lives: Lives, mode: str, tmp_path: Path
) -> None:
    """In the middle of writing a file as well; a life that ends before its time ends well."""
    done = value(lives.live(mode, tmp_path / "whole"), "done")
    drawn = random.Random(mode)
    for index in range(5):
        deaths = [{"after": drawn.uniform(0.02, 0.4)} for _ in range(2)]
        said = resumed(lives, mode, tmp_path / str(index), deaths)
        assert value(said, "done") == done, deaths


@pytest.mark.parametrize("mode", MODES)
def test_a_run_leaves_nothing_but_its_checkpoints(lives: Lives, mode: str, tmp_path: Path) -> None:
    lives.live(mode, tmp_path, event=60)
    lives.live(mode, tmp_path)
    limit = MODES[mode].get("total_limit")
    last = STEPS // 3 - 1
    left = {one.name for one in (tmp_path / "checkpoints" if limit else tmp_path).iterdir()}
    assert left == ({f"checkpoint_{last - i}" for i in range(limit)} if limit else {"it"})
