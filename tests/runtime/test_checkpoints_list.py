"""`python -m runtime.checkpoints` lists what can be loaded, and why the rest cannot."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.checkpoint.manifest import MANIFEST, name_of, read, text
from runtime.checkpoints import UNFINISHED, Saved, places_in, saved_in
from runtime.loop.state import FACT, LoopState
from tests.runtime.places import checkpoint

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def write(root: Path, number: int, step: int | None) -> Path:
    """A checkpoint in a directory, automatic if it has a step."""
    folder = root / name_of(number)
    shutil.copytree(checkpoint(root.parent / f"made-{root.name}-{number}", number), folder)
    if step is not None:
        amend(folder, LoopState(step=step).fact())
    return folder


def amend(folder: Path, fact: Any) -> None:
    (folder / MANIFEST).write_bytes(text((read(folder) or {}) | {FACT: fact}))


def whole(_: Path) -> None: ...


def lacks_a_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def has_no_json(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def has_an_odd_step(folder: Path) -> None:
    amend(folder, {"step": "x"})


def is_unfinished(folder: Path) -> None:
    (folder.parent / ".unfinished").mkdir()
    folder.rename(folder.parent / ".unfinished" / folder.name)


@pytest.mark.parametrize(
    ("happens", "step", "problem"),
    [
        pytest.param(whole, 70, None, id="an automatic one"),
        pytest.param(whole, None, None, id="one of save_state"),
        pytest.param(lacks_a_file, 70, "damaged: .* is missing", id="a file is missing"),
        pytest.param(has_no_json, 70, "damaged: .*manifest.json", id="a damaged manifest"),
        pytest.param(has_an_odd_step, 70, "damaged: ", id="a manifest that no loop wrote"),
        pytest.param(is_unfinished, 70, UNFINISHED, id="one that is being written"),
    ],
)
def test_a_checkpoint(
    tmp_path: Path, happens: Callable[[Path], None], step: int | None, problem: str | None
) -> None:
    root = tmp_path / "place"
    happens(write(root, 7, step))
    before = {one: one.lstat().st_mtime_ns for one in root.rglob("*")}
    (found,) = saved_in(str(root))
    assert found.name == "checkpoint_7"
    assert {one: one.lstat().st_mtime_ns for one in root.rglob("*")} == before
    if problem is None:
        assert (found.problem, found.step) == (None, step)
        assert found.bytes is not None
        assert found.bytes > 0
        assert TIME.fullmatch(found.time or "")
    else:
        assert re.match(problem, found.problem or "")


def test_the_newest_comes_first_whatever_their_names_say_to_a_sort(tmp_path: Path) -> None:
    for number in (9, 10, 100):
        write(tmp_path / "place", number, number)
    assert [one.step for one in saved_in(str(tmp_path / "place"))] == [100, 10, 9]


def test_a_place_that_does_not_exist_has_none(tmp_path: Path) -> None:
    assert saved_in(str(tmp_path / "none")) == []
    assert places_in(str(tmp_path / "none")) == [str(tmp_path / "none")]


def test_the_folder_of_several_runs_is_listed_run_by_run(tmp_path: Path) -> None:
    runs = [tmp_path / "digits-checkpoint" / one for one in ("digits-1", "digits-2")]
    for run in runs:
        write(run, 1, 1)
    (tmp_path / "digits-checkpoint" / "other").mkdir()
    assert places_in(str(tmp_path / "digits-checkpoint")) == [str(run) for run in runs]
    assert places_in(str(runs[0])) == [str(runs[0])]


def printed(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtime.checkpoints", *arguments]
    return subprocess.run(
        command, env=os.environ | env, text=True, capture_output=True, check=False
    )


def test_the_command_lists_the_place_of_its_job_as_a_table_or_json(tmp_path: Path) -> None:
    place = tmp_path / "place"
    write(place, 540, 540)
    is_unfinished(write(place, 541, 541))
    done = printed(ACCELERATEDJOB_CHECKPOINT_DIR=str(place))
    assert done.returncode == 0, done.stderr
    first, header, left, whole = done.stdout.splitlines()
    assert first == str(place)
    assert header.split() == ["CHECKPOINT", "STEP", "WRITTEN", "BYTES", "STATE"]
    assert left.split(maxsplit=1) == ["checkpoint_541", UNFINISHED]
    assert whole.split()[:2] + whole.split()[4:] == ["checkpoint_540", "540", "complete"]
    (told,) = json.loads(printed("--json", str(place)).stdout)
    assert told["place"] == str(place)
    assert [Saved(**one) for one in told["checkpoints"]] == saved_in(str(place))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([], "ACCELERATEDJOB_CHECKPOINT_DIR is not set", id="no place"),
        pytest.param(["none://bucket/x"], "install acceleratedjob", id="a store nobody knows"),
    ],
)
def test_what_cannot_be_listed_is_said(arguments: list[str], told: str) -> None:
    done = printed(*arguments, ACCELERATEDJOB_CHECKPOINT_DIR="")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_it_needs_no_torch() -> None:
    ask = "import sys, runtime.checkpoints; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", ask], check=True)
